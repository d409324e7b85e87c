"""The two tiny pipelines, loaded; each test has a copy of its own to train."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from cxrguard.diffusion.loading import PipelineParts, load_pipeline


@pytest.fixture(scope="session")
def epsilon_parts(pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(pipeline_dir))


@pytest.fixture(scope="session")
def v_parts(v_pipeline_dir: Path) -> PipelineParts:
    return load_pipeline(str(v_pipeline_dir))


@pytest.fixture(params=["epsilon", "v_prediction"])
def parts(request: pytest.FixtureRequest, epsilon_parts: PipelineParts, v_parts: PipelineParts) -> PipelineParts:
    """A copy that a test may change."""
    return copy.deepcopy(epsilon_parts if request.param == "epsilon" else v_parts)
