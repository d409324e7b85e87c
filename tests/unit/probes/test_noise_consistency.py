"""Agreement over seeds against loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from naive_probes import norm

from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.noise_consistency import NoiseConsistency, max_pairwise_ssim, ssim


def pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return [(items[i], items[j]) for i in range(len(items)) for j in range(i)]


def ssim_by_loop(a: list[float], b: list[float], shape: tuple[int, int, int]) -> float:
    """Mean over channels and flat windows, of values scaled to [0, 1] a channel."""
    (channels, height, width), total, count = shape, 0.0, 0
    wh, ww = min(7, height), min(7, width)

    def scaled(values: list[float], c: int) -> list[float]:
        values = values[c * height * width : (c + 1) * height * width]
        return [(v - min(values)) / (max(values) - min(values)) for v in values]

    for c in range(channels):
        x, y = scaled(a, c), scaled(b, c)
        for top in range(height - wh + 1):
            for left in range(width - ww + 1):
                places = [(top + i) * width + left + j for i in range(wh) for j in range(ww)]
                p, q = [x[i] for i in places], [y[i] for i in places]
                n, mp, mq = len(places), sum(p) / len(p), sum(q) / len(q)
                vp, vq = sum((v - mp) ** 2 for v in p) / n, sum((v - mq) ** 2 for v in q) / n
                cov = sum((v - mp) * (w - mq) for v, w in zip(p, q, strict=True)) / n
                total += (2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / (mp**2 + mq**2 + 1e-4) / (vp + vq + 9e-4)
                count += 1
    return total / count


def test_cosine_against_loops(pair: Any) -> None:
    probe = NoiseConsistency(seeds=3)
    want = []
    for p in pair.prompts():
        found = [p.difference(p.noise(s), 999) for s in range(3)]
        cosines = [sum(x * y for x, y in zip(a, b, strict=True)) / norm(a) / norm(b) for a, b in pairs(found)]
        want.append(sum(cosines) / 3)
    assert probe(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)
    assert probe.evals_per_prompt == 6 and probe.direction == "higher"


def test_ssim_against_loops(pair: Any) -> None:
    want = [max(ssim_by_loop(a, b, (3, 4, 8)) for a, b in pairs([p.difference(p.noise(s), 999) for s in range(3)])) for p in pair.prompts()]
    assert NoiseConsistency(seeds=3, agreement="ssim")(pair.denoiser, pair.batch).tolist() == pytest.approx(want, rel=1e-4)


def test_the_first_step_only(denoiser: Any, batch: ProbeBatch) -> None:
    NoiseConsistency(seeds=2)(denoiser, batch)
    assert denoiser.timesteps == [999] * 4


def test_one_direction_whatever_the_noise_agrees_fully(denoiser: Any, batch: ProbeBatch) -> None:
    class Same(type(denoiser)):  # type: ignore[misc]
        def predict_noise(self, latents: Any, timesteps: Any, encoder_hidden_states: Any) -> Any:
            return torch.arange(18.0).reshape(1, 2, 3, 3) * encoder_hidden_states.mean(dim=(1, 2))[:, None, None, None]

    for agreement in ("cosine", "ssim"):
        scores = NoiseConsistency(agreement=agreement)(Same(), batch)
        assert scores.tolist() == pytest.approx([1] * 4, rel=1e-5)
        assert scores.min() > NoiseConsistency(agreement=agreement)(denoiser, batch).max() + 0.3  # there Δε follows the noise


def test_no_difference_at_all_is_finite(denoiser: Any, batch: ProbeBatch) -> None:
    empty = replace(batch, encoder_hidden_states=batch.uncond_hidden_states.expand(4, -1, -1))
    assert NoiseConsistency()(denoiser, empty).tolist() == [0] * 4
    assert NoiseConsistency(agreement="ssim")(denoiser, empty).isfinite().all()


def test_ssim_is_near_torchmetrics_with_flat_windows() -> None:
    """Theirs also counts windows over reflected edges, so it is cropped to ours."""
    functional = pytest.importorskip("torchmetrics.functional.image")
    a, b = torch.rand(2, 3, 4, 16, 20, generator=torch.Generator().manual_seed(0))
    _, full = functional.structural_similarity_index_measure(
        a, b, gaussian_kernel=False, kernel_size=7, data_range=1.0, reduction="none", return_full_image=True
    )
    assert ssim(a, b).tolist() == pytest.approx(full[..., 3:-3, 3:-3].mean(dim=(1, 2, 3)).tolist(), rel=1e-4)


def test_ssim_takes_the_largest_of_the_pairs() -> None:
    x, y = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(max_pairwise_ssim(torch.stack([x, y, 3 * x + 1]))) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(("arguments", "says"), [({"seeds": 1}, "at least 2"), ({"agreement": "l2"}, "one of cosine, ssim")])
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        NoiseConsistency(**arguments)
