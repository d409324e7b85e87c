"""The two tiny pipelines, loaded, and parts in places of their own; each test has a copy that it may change."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_parts import save_parts

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


@pytest.fixture(scope="session")
def saved_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("parts")
    return root, save_parts(root)


@pytest.fixture
def source(saved_parts: tuple[Path, dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    """Parts as ``model.source`` names them, in the test's own directory."""
    root, source = saved_parts
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return json.loads(json.dumps(source).replace(str(root), str(tmp_path)))


@pytest.fixture
def assembled(source: dict[str, Any]) -> PipelineParts:
    return load_pipeline(source)
