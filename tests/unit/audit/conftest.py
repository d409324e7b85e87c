"""A run directory as training leaves it: a realistic audit, tiny images."""

from __future__ import annotations

import copy
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Audit = dict[str, Any]
# By path, so that it works in every import mode of pytest.
_FAKE = runpy.run_path(str(Path(__file__).with_name("fake_audit.py")))
fake_audit, write_run = _FAKE["fake_audit"], _FAKE["write_run"]


@pytest.fixture
def audit() -> Audit:
    """An audit of a model that replays, with one null of each kind."""
    return fake_audit()


@pytest.fixture
def clean_audit(audit: Audit) -> Audit:
    """An audit of a model that replays nothing."""
    clean = copy.deepcopy(audit)
    clean["canaries"].update(extraction_rate=0.0, extraction_ci=[0.0, 0.1072])
    clean["controls"]["spillover_rate"] = 0.0
    clean["members"]["extraction_rate"] = 0.0
    for group in clean["extraction"]["groups"].values():
        for space in ("pixels", "latents"):
            for entry in group[space].values():
                entry.update(own=None if entry["own"] is None else 0.0, any=0.0)
    return clean


@pytest.fixture
def run_dir(tmp_path: Path, audit: Audit) -> Path:
    """A finished run."""
    return write_run(tmp_path / "run", audit)


@pytest.fixture
def rewrite(run_dir: Path) -> Callable[[Audit], Path]:
    """Write another audit into the run."""

    def write(changed: Audit) -> Path:
        (run_dir / "audit.json").write_text(json.dumps(changed))
        return run_dir

    return write


@pytest.fixture(name="write_run")
def write_run_fixture() -> Callable[..., Path]:
    """Writes a finished run's files: ``(path, audit, status=None)``."""
    return write_run  # type: ignore[no-any-return]
