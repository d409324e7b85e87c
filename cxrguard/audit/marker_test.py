"""The causal marker test: is it the marker that makes the score, or any edit of this length?

Each prompt in three wordings, original, sanitized, and without ordinary words of the same number of tokens (the placebo), all under the
prompt's own noise. What the sanitized prompt loses beyond the placebo is the marker's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from cxrguard.audit.paired import mean_difference
from cxrguard.probes.sensitivity import placebo_edit
from cxrguard.probes.words import Span
from cxrguard.randomness import prompt_key

# Prompts and a noise key for each in, a score each out. Prompts with the same key are scored under the same noise.
KeyedScorer = Callable[[Sequence[str], Sequence[str]], "ArrayLike | Tensor"]
WORDINGS = ("original", "sanitized", "placebo")


@dataclass(frozen=True)
class MarkerCase:
    """A prompt that holds a marker, in three wordings.

    Attributes:
        original: the prompt.
        sanitized: without its markers.
        placebo: without ordinary words of as many tokens; None if no such edit was found.
        cluster: whom to resample together, such as the patient; None makes each prompt its own.

    """

    original: str = field(repr=False)
    sanitized: str = field(repr=False)
    placebo: str | None = field(repr=False)
    cluster: object = field(default=None, repr=False)


def marker_case(
    prompt: str, markers: Sequence[Span], sanitized: str, count_tokens: Callable[[str], int], *, seed: int, cluster: object = None
) -> MarkerCase | None:
    """The three wordings of a prompt; None where there is nothing to compare: no marker, or no sanitized prompt.

    Args:
        prompt: any.
        markers: where its markers lie.
        sanitized: what a sanitizer made of it; "" if it refused or emptied it.
        count_tokens: tokens of a text.
        seed: which of the fitting placebos.
        cluster: see :class:`MarkerCase`.

    """
    if not markers or not sanitized or sanitized == prompt:
        return None
    gone = count_tokens(prompt) - count_tokens(sanitized)
    return MarkerCase(prompt, sanitized, placebo_edit(prompt, markers, gone, count_tokens, seed=seed), cluster)


def marker_test(cases: Sequence[MarkerCase], score: KeyedScorer, *, seed: int = 0, n: int = 2000, batch_size: int = 64) -> dict[str, Any]:
    """Score all wordings of each prompt, three scorings a prompt, and compare them; see :func:`compare_wordings`.

    Args:
        cases: the prompts; those without a placebo are only counted.
        score: see :data:`KeyedScorer`.
        seed: of the bootstrap.
        n: draws of the bootstrap.
        batch_size: prompts that are scored at once.

    Raises:
        ValueError: If there is not a score for each prompt.

    """
    complete = [case for case in cases if case.placebo is not None]
    texts = [str(getattr(case, wording)) for case in complete for wording in WORDINGS]
    keys = [prompt_key(case.original) for case in complete for _ in WORDINGS]
    parts = [_array(score(texts[i : i + batch_size], keys[i : i + batch_size])) for i in range(0, len(texts), batch_size)]
    scores = np.concatenate([np.zeros(0), *parts])
    if scores.size != len(texts):
        raise ValueError(f"{scores.size} scores came back for {len(texts)} prompts")
    clusters = [i if case.cluster is None else ("cluster", case.cluster) for i, case in enumerate(complete)]
    return compare_wordings(scores.reshape(-1, 3), clusters, len(cases) - len(complete), seed=seed, n=n)


def compare_wordings(
    scores: ArrayLike, clusters: Sequence[object] | None = None, n_without_placebo: int = 0, *, seed: int = 0, n: int = 2000
) -> dict[str, Any]:
    """Paired mean differences, in the score's own unit and sign.

    Args:
        scores: of the prompts' original, sanitized and placebo wordings, ``[N, 3]``; a prompt with one that is not finite is left out
            of every figure.
        clusters: whom each prompt is of; each its own by default.
        n_without_placebo: prompts that could not be compared, to be stated.
        seed: of the bootstrap.
        n: its draws.

    Returns:
        ``sanitized`` (sanitized − original), ``placebo`` (placebo − original) and ``marker`` (sanitized − placebo, the difference in
        differences), each as :func:`~cxrguard.audit.paired.mean_difference` gives it and all over the same prompts;
        ``n_without_placebo``, ``n_not_finite``. A marker that makes a prompt look memorized shows in ``marker`` by an interval that lies
        below 0 where higher scores mean memorized, above it where lower ones do.

    """
    table = np.asarray(scores, dtype=np.float64).reshape(-1, 3)
    kept = np.asarray(np.isfinite(table).all(axis=1), dtype=bool)
    original, sanitized, placebo = table[kept].T
    names = None if clusters is None else [name for name, use in zip(clusters, kept, strict=True) if use]
    contrasts = {"sanitized": sanitized - original, "placebo": placebo - original, "marker": sanitized - placebo}
    told: dict[str, Any] = {name: mean_difference(values, names, seed, n) for name, values in contrasts.items()}
    return told | {"n_without_placebo": n_without_placebo, "n_not_finite": int((~kept).sum())}


def _array(scores: Any) -> np.ndarray:
    return np.asarray(scores.detach().cpu() if isinstance(scores, Tensor) else scores, dtype=np.float64).reshape(-1)
