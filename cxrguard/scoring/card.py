"""The benchmark's card: how it was made, in Markdown. No prompt and no row of the table is in it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from cxrguard import __version__
from cxrguard.scoring.benchmark import Collector
from cxrguard.scoring.detectors import Detectors
from cxrguard.scoring.prompts import UniquePrompts
from cxrguard.scoring.request import ScoreRequest

_TEXT = """# Memorized-prompt benchmark

The prompts of one table that a model has most likely memorized, by one score. A score is a claim until canaries and controls of the
same form bear it out: see the run's `audit.json`.

{table}

Percentile: the share of prompts that score lower, ties by half. z-score: (score − mean) / standard deviation. Both are over the
different prompts of the table that have a score{lower}. `prompt_hash` is a keyed hash: only who has the site's key can check it.{shown}
"""


def card(request: ScoreRequest, prompts: UniquePrompts, collector: Collector, n_cut: int, fingerprint: str) -> str:
    """The card's text."""
    detectors = request.detectors
    lower = "" if detectors.sign(detectors.columns[0]) == 1 else " (here of the negated score: lower means memorized)"
    shown = " The prompts stand beside it: keep this file as private as they are." if request.show_prompts else ""
    rows = [*_origin(request, detectors, fingerprint), *_counts(request, prompts, collector, n_cut)]
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    return _TEXT.format(table=table, lower=lower, shown=shown)


def _origin(request: ScoreRequest, detectors: Detectors, fingerprint: str) -> Iterator[tuple[str, str]]:
    yield "Model", f"`{request.model}`"
    if request.base:
        yield "Base", f"`{request.base}`"
    yield "Fingerprint of weights, settings and prompts", f"`{fingerprint}`"
    yield "Selected by", f"`{detectors.columns[0]}`"
    yield "Scores", ", ".join(f"`{column}`" for column in detectors.columns)
    yield "Steps", f"{request.draws.steps} (the first of 50 DDIM steps, trailing spacing, guidance 7.5)"
    yield "Noises a prompt", f"{request.draws.seeds} (seed {request.seed})"
    yield "UNet evaluations a prompt", f"{detectors.evals_per_prompt}"
    yield "Versions", f"cxrguard {__version__}, torch {torch.__version__}"


def _counts(request: ScoreRequest, prompts: UniquePrompts, collector: Collector, n_cut: int) -> Iterator[tuple[str, str]]:
    chosen = collector.selection
    rules = []
    if request.top_or_default:
        rules.append(f"top {request.top_or_default} ({chosen.by_top:,} prompts)")
    if request.zscore is not None:
        rules.append(f"z-score ≥ {request.zscore:g} ({chosen.by_zscore:,} prompts)")
    yield "Selection", " or ".join(rules)
    yield "Rows", f"{prompts.rows:,}"
    yield "Different prompts", f"{len(prompts):,} ({prompts.repeated:,} rows repeat one, {prompts.empty:,} are empty)"
    yield "Longer than the encoder, cut", f"{n_cut:,}"
    yield "Selected", f"{len(chosen.numbers):,}"
    yield "With a de-identification marker, of the selected", _share(int(collector.marked[chosen.numbers].sum()), len(chosen.numbers))
    yield "With a de-identification marker, of all", _share(int(collector.marked.sum()), len(prompts))


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.1f} %)" if whole else "")
