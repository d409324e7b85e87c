from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cxrguard.errors import CxrguardError, ModelError
from cxrguard.probes.text_noise_norm import TextNoiseNorm
from cxrguard.scoring.detectors import DETECTORS, Detectors, Draws, check_names, columns_of
from cxrguard.scoring.model import ScoringModel, fingerprint_model

PROMPTS = ("FINDINGS: PA view. No acute process.", "Large left effusion.", "Heart size is normal.")

# These follow the whole trajectory: too long for here, and the contract of the probes covers them.
WHOLE = ("text_noise_norm_mean", "cross_attention_entropy_late", "bright_ending")


@pytest.fixture(scope="module", params=["pipeline_dir", "v_pipeline_dir"])
def model(request: pytest.FixtureRequest) -> ScoringModel:
    source = str(request.getfixturevalue(request.param))
    return ScoringModel(source, base=source)


def test_every_detector_gives_a_score_a_prompt_whatever_the_batch(model: ScoringModel) -> None:
    detectors = Detectors(tuple(name for name in DETECTORS if name not in WHOLE), Draws(steps=2, seeds=2))
    together = detectors(model.denoiser, model.batch(PROMPTS, 3))
    alone = torch.cat([detectors(model.denoiser, model.batch([prompt], 3)) for prompt in PROMPTS])
    assert together.shape == (3, len(detectors.columns))
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    mirrored = detectors(model.denoiser, model.batch(PROMPTS[::-1], 3)).flip(0)
    torch.testing.assert_close(together, mirrored, rtol=1e-3, atol=1e-4)


def test_the_columns_are_those_of_the_probe(model: ScoringModel) -> None:
    detectors = Detectors(("text_noise_norm",), Draws(steps=3, seeds=2))
    batch = model.batch(PROMPTS, 1)
    raw, rms = detectors(model.denoiser, batch).T
    torch.testing.assert_close(raw, TextNoiseNorm(steps=3, seeds=2)(model.denoiser, batch), rtol=0, atol=0)
    torch.testing.assert_close(rms, TextNoiseNorm(steps=3, seeds=2, rms=True)(model.denoiser, batch), rtol=1e-6, atol=0)
    assert torch.equal(rms, raw / math.sqrt(math.prod(model.latent_shape)))
    assert detectors.evals_per_prompt == 2 * 3 * 2


def test_names() -> None:
    names = check_names(["text_noise_norm_rms", "sharpness", "text_noise_norm", "sharpness"], has_base=False)
    assert names == ("text_noise_norm", "sharpness")
    assert columns_of(("sharpness", "text_noise_norm")) == ("sharpness", "text_noise_norm", "text_noise_norm_rms")
    assert Detectors(("text_noise_norm",), Draws()).sign("text_noise_norm_rms") == 1
    with pytest.raises(CxrguardError, match="Unknown detector 'tnn': known are text_noise_norm"):
        check_names(["tnn"], has_base=True)
    with pytest.raises(CxrguardError, match="'base_noise_gap' compares with the checkpoint .* --base DIR"):
        check_names(["text_noise_norm", "base_noise_gap"], has_base=False)
    with pytest.raises(CxrguardError, match="No detector named"):
        check_names([], has_base=False)
    with pytest.raises(CxrguardError, match="--seeds 1: seeds must be at least 2"):
        Detectors(("noise_consistency",), Draws(seeds=1))


def test_a_base_of_another_shape(pipeline_dir: Path, v_pipeline_dir: Path) -> None:
    with pytest.raises(ModelError, match="is no base of"):
        ScoringModel(str(pipeline_dir), base=str(v_pipeline_dir))


def test_cut_prompts(model: ScoringModel) -> None:
    assert model.are_cut(["clear", "clear " * 200, ""]) == [False, True, False]


def test_the_fingerprint_is_of_content(pipeline_dir: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "elsewhere"
    shutil.copytree(pipeline_dir, copy)
    assert fingerprint_model(str(copy)) == fingerprint_model(str(pipeline_dir))
    weights = next(copy.glob("unet/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert fingerprint_model(str(copy)) != fingerprint_model(str(pipeline_dir))
