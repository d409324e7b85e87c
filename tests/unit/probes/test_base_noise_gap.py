"""‖ε − ε_base‖ on pure noise against loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from naive_probes import minus, norm

from cxrguard.errors import BadInputError
from cxrguard.probes.base_noise_gap import BaseNoiseGap
from cxrguard.probes.batch import ProbeBatch


@pytest.mark.parametrize("difference", ["conditional", "text"])
def test_against_loops(pair: Any, difference: str) -> None:
    probe = BaseNoiseGap(timesteps=[700, 100], seeds=2, difference=difference)
    want = []
    for p, b in zip(pair.prompts(), pair.base_prompts(), strict=True):
        total = 0.0
        for t in (700, 100):
            for seed in range(2):
                x = p.noise(seed)
                total += norm(
                    minus(p.text(x, t), b.text(x, t)) if difference == "conditional" else minus(p.difference(x, t), b.difference(x, t))
                )
        want.append(total / 4)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == (8 if difference == "conditional" else 16) and probe.direction == "higher"


def test_the_base_itself_scores_zero_and_default_is_t_700(denoiser: Any, batch: ProbeBatch) -> None:
    assert BaseNoiseGap()(denoiser, replace(batch, base=denoiser)).tolist() == [0] * 4
    assert denoiser.timesteps == [700] * 8


def test_what_moved_for_every_prompt_alike_cancels_out_of_text_only(denoiser: Any, batch: ProbeBatch) -> None:
    class Shifted(type(denoiser)):  # type: ignore[misc]
        def predict_noise(self, *args: Any) -> Any:
            return super().predict_noise(*args) + 1

    shifted = replace(batch, base=Shifted())
    assert BaseNoiseGap()(denoiser, shifted).tolist() == pytest.approx([18**0.5] * 4, rel=1e-5)
    assert max(BaseNoiseGap(difference="text")(denoiser, shifted)) < 1e-4


def test_no_base_and_no_such_difference(denoiser: Any, batch: ProbeBatch) -> None:
    with pytest.raises(BadInputError, match="'base_noise_gap' compares with the base checkpoint, and none was given"):
        BaseNoiseGap()(denoiser, batch)
    with pytest.raises(ValueError, match="difference must be one of conditional, text, not 'both'"):
        BaseNoiseGap(difference="both")
