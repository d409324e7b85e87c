"""Which words make a prompt look memorized, and whether it is the marker: two looks at the prompts that the audit judges.

The prompts are taken in their original wording, markers and all. Words leave this module only where enough patients have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrguard.audit.assemble import GROUPS
from cxrguard.audit.evaluate import Evaluator
from cxrguard.audit.groups import Group
from cxrguard.audit.intervals import MIN_CLUSTERS
from cxrguard.audit.known_words import is_known
from cxrguard.audit.marker_test import WORDINGS, KeyedScorer, MarkerCase, marker_case, marker_test
from cxrguard.audit.resampling import bootstrap_mean, cluster_ids
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.encoding import encode_prompts
from cxrguard.errors import CxrguardError
from cxrguard.probes.attribution import attribute_tokens
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.probes.words import Span, aggregate_to_words, token_offsets, words_of
from cxrguard.progress import progress_of
from cxrguard.sanitizer.conventions import AUTO, find_markers
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

WORDS = ("known", "all", "off")
LEAST_PATIENTS = 5
"""Below this a word may point to somebody, whatever the site's own rule says."""

MOST_WORDS = 20
GRADIENT_BATCH = 8  # a backward pass through a large UNet takes many times the memory of a forward one
GRADIENT_SEEDS, SEEDS = 1, 2  # noises a prompt; the means are over many prompts


@dataclass(frozen=True)
class ReportSettings:
    """What the report holds.

    Attributes:
        show_images: images of the data set in the local report.
        show_prompts: text of reports in the local report; never elsewhere.
        words: which words may be shown: ``known`` (of the project's own lists, so no name; see :mod:`cxrguard.audit.known_words`), ``all``
            that enough patients have, or ``off``, which leaves out the look at the marker too.
        min_patients: a word is shown once so many patients have it.

    Raises:
        CxrguardError: for what is no such choice, or a number of patients that may point to one of them.

    """

    show_images: bool = True
    show_prompts: bool = False
    words: str = "known"
    min_patients: int = 20

    def __post_init__(self) -> None:
        if self.words not in WORDS:
            raise CxrguardError(f"report.words={self.words}: known are {', '.join(WORDS)}")
        if self.min_patients < LEAST_PATIENTS:
            raise CxrguardError(
                f"report.min_patients={self.min_patients}: a word that so few patients share may point to one of them; "
                f"set {LEAST_PATIENTS} or more, or report.words=off"
            )

    @classmethod
    def of(cls, config: dict[str, Any]) -> ReportSettings:
        """Those of a resolved configuration; what it does not name is as by default."""
        given, known = config.get("report") or {}, {each.name for each in fields(cls)}
        chosen = {name: value for name, value in given.items() if name in known}
        return cls(**chosen | ({"words": "off"} if chosen.get("words") is False else {}))  # what YAML makes of a bare off


def explain(evaluator: Evaluator, denoiser: Denoiser, settings: ReportSettings) -> dict[str, Any]:
    """The sections ``words`` and ``marker_test`` of the audit.

    A look that was not asked for, or cannot be taken, must not cost the audit: its section then holds the reason alone.
    """
    if settings.words == "off":
        reason = "not asked for (report.words=off)"
        return {"words": {"top": None, "reason": reason}, "marker_test": {"groups": None, "reason": reason}}
    shown = is_known if settings.words == "known" else None
    return {
        "words": _or_reason("top", lambda: word_table(evaluator, denoiser, settings.min_patients, shown)),
        "marker_test": _or_reason("groups", lambda: marker_tests(evaluator, denoiser)),
    }


def _or_reason(section: str, look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except torch.OutOfMemoryError:
        reason = "the device ran out of memory"
    except CxrguardError as error:
        reason = str(error)
    return {section: None, "reason": reason}


@dataclass
class _Uses:
    """Where a word stands: what it contributes there, in whose prompt, and of which group."""

    marker: bool
    contributions: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list, repr=False)
    canary: list[bool] = field(default_factory=list)


def word_table(
    evaluator: Evaluator, denoiser: Denoiser, min_patients: int, may_show: Callable[[str], bool] | None = None, most: int = MOST_WORDS
) -> dict[str, Any]:
    """The words that raise ``text_noise_norm`` at the first step most, by gradient times input, and every kind of marker.

    Args:
        evaluator: the judge.
        denoiser: the model that is judged.
        min_patients: patients whose prompts have a word, at least, for it to be shown.
        may_show: says of a word whether it may be shown then; None: all may. Markers always may.
        most: words, beside markers.

    Returns:
        ``prompts``, ``patients``, ``min_patients``, ``rare`` (different words that too few patients share), ``unknown`` (of the others,
        those that are not shown), and ``top``, the highest first: ``word`` (in lower case, markers as they are), ``marker`` (whether it
        is one), ``rank`` among all words of enough patients, so that what is not shown leaves a gap, ``patients``, ``contribution`` (mean
        over all places, in the score's unit; above 0 the word raises it) with ``contribution_ci`` (patients resampled), ``canaries`` and
        ``others`` (the means in canaries' and in all other prompts).

    """
    found: dict[tuple[str, bool], _Uses] = {}
    groups = [evaluator.judged.groups[name] for name in GROUPS]
    with progress_of("final audit: words", sum(map(len, groups))) as advance:
        for group in groups:
            _add_words(found, evaluator, denoiser, group, advance)
    shared = {key: uses for key, uses in found.items() if len(set(uses.patients)) >= min_patients}
    ranked = sorted(shared.items(), key=lambda item: (-float(np.mean(item[1].contributions)), item[0]))
    shown = [(rank, *item) for rank, item in enumerate(ranked, start=1) if item[1].marker or may_show is None or may_show(item[0][0])]
    return {
        "score": "text_noise_norm",
        "prompts": sum(map(len, groups)),
        "patients": len({subject for group in groups for subject in group.subjects}),
        "min_patients": min_patients,
        "rare": len(found) - len(shared),
        "unknown": len(shared) - len(shown),
        "top": [_row(key[0], uses, rank, evaluator.seed) for i, (rank, key, uses) in enumerate(shown) if uses.marker or i < most],
        "reason": None,
    }


def _add_words(
    found: dict[tuple[str, bool], _Uses], evaluator: Evaluator, denoiser: Denoiser, group: Group, advance: Callable[[int], None]
) -> None:
    conventions = TextSanitizer(SanitizerSettings(conventions=(AUTO,))).conventions
    batch = evaluator.judged.batch(group.name, 0, evaluator.seed, evaluator.sampler.scheduler_config)
    prompts, start = group.variants[0].prompts, 0
    for part in batch.split(GRADIENT_BATCH):
        told = attribute_tokens(denoiser, part, seeds=GRADIENT_SEEDS).gradient_times_input.cpu()
        some = slice(start, start + len(part.keys))
        for prompt, patient, scores, offsets in zip(
            prompts[some], group.subjects[some], told, token_offsets(evaluator.parts.tokenizer, prompts[some]), strict=True
        ):
            markers = find_markers(prompt, conventions)
            _add_prompt(found, prompt, patient, group.name == "canaries", scores, offsets, markers)
        start = some.stop
        advance(len(part.keys))


def _add_prompt(
    found: dict[tuple[str, bool], _Uses], prompt: str, patient: str, canary: bool, scores: Tensor, offsets: Tensor, markers: Sequence[Span]
) -> None:
    words = words_of(prompt)
    for word, score in zip(words, aggregate_to_words(scores, offsets, words, "sum"), strict=True):
        if score is None or not np.isfinite(score):  # cut off by the encoder
            continue
        marker = next(((start, end) for start, end in markers if word.start < end and start < word.end), None)
        # of a word with a marker in it the marker alone: what is glued to it may be a name
        text = word.text.lower() if marker is None else prompt[max(word.start, marker[0]) : min(word.end, marker[1])]
        uses = found.setdefault((text, marker is not None), _Uses(marker is not None))
        uses.contributions.append(score)
        uses.patients.append(patient)
        uses.canary.append(canary)


def _row(word: str, uses: _Uses, rank: int, seed: int) -> dict[str, Any]:
    values, ids, canary = np.array(uses.contributions), cluster_ids(uses.patients), np.array(uses.canary)
    several = np.unique(ids).size >= MIN_CLUSTERS
    return {
        "word": word,
        "marker": uses.marker,
        "rank": rank,
        "patients": len(set(uses.patients)),
        "contribution": float(values.mean()),
        "contribution_ci": bootstrap_mean(values, ids, seed, 1000) if several else None,
        "canaries": float(values[canary].mean()) if canary.any() else None,
        "others": float(values[~canary].mean()) if not canary.all() else None,
    }


def marker_tests(evaluator: Evaluator, denoiser: Denoiser) -> dict[str, Any]:
    """The :mod:`causal marker test <cxrguard.audit.marker_test>` of each group of prompts that holds markers.

    Returns:
        ``score``, its ``direction``, ``evals_per_prompt`` (all wordings together) and ``groups``: by name what
        :func:`~cxrguard.audit.marker_test.compare_wordings` gives, and ``n_prompts``. ``groups`` is None, with the ``reason``, where no
        prompt holds a marker.

    """
    probe = TextNoiseNorm(steps=1, seeds=SEEDS)
    cases = {name: _cases(evaluator, evaluator.judged.groups[name]) for name in GROUPS}
    told: dict[str, Any] = {
        "score": "text_noise_norm",
        "direction": probe.direction,
        "evals_per_prompt": len(WORDINGS) * probe.evals_per_prompt,
    }
    if not any(cases.values()):
        return told | {"groups": None, "reason": "no judged prompt holds a marker that can be taken out"}
    groups, score = {}, _scorer(evaluator, denoiser, probe)
    with progress_of("final audit: marker test", len(cases)) as advance:
        for name, some in cases.items():
            if some:
                groups[name] = {"n_prompts": len(some), **marker_test(some, score, seed=evaluator.seed)}
            advance(1)
    return told | {"groups": groups, "reason": None}


def _cases(evaluator: Evaluator, group: Group) -> list[MarkerCase]:
    sanitizer = TextSanitizer(SanitizerSettings(conventions=(AUTO,)))
    tokenizer = evaluator.parts.tokenizer
    made = []
    for prompt, patient in zip(group.variants[0].prompts, group.subjects, strict=True):
        markers = find_markers(prompt, sanitizer.conventions)
        if markers:
            clean = sanitizer.sanitize(prompt).text
            made.append(marker_case(prompt, markers, clean, lambda text: len(tokenizer(text, verbose=False).input_ids),
                                    seed=evaluator.seed, cluster=patient))  # fmt: skip
    return [case for case in made if case is not None]


def _scorer(evaluator: Evaluator, denoiser: Denoiser, probe: TextNoiseNorm) -> KeyedScorer:
    """Scores wordings as the evaluator scores prompts, but each under the noise of its key."""
    like = evaluator.judged.groups[GROUPS[0]].latents

    @torch.no_grad()
    def score(prompts: Sequence[str], keys: Sequence[str]) -> Tensor:
        states, latents = encode_prompts(evaluator.parts, prompts), like.new_zeros(len(prompts), *like.shape[1:])
        uncond, config = evaluator.judged.uncond_hidden_states, evaluator.sampler.scheduler_config
        batch = ProbeBatch(states, uncond, latents, tuple(keys), evaluator.seed, config)
        return torch.cat([probe(denoiser, part).cpu() for part in batch.split(evaluator.batch_size)])

    return score
