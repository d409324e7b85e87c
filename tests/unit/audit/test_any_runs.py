"""``cxrguard report DIR`` over any set of runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cxrguard.audit.record import DETECTOR_KEYS, REQUIRED
from cxrguard.audit.study import write_study

Audit = dict[str, Any]


def test_any_set_of_runs_is_compared_old_ones_too(tmp_path: Path, audit: Audit, write_run: Callable[..., Path]) -> None:
    """Runs and sweeps in Hydra's own directories, one of them with no more than the first version wrote."""
    root = tmp_path / "outputs"
    old = {key: audit[key] for key in (*REQUIRED[""], "null_reasons")}
    names = ("train", "probes", "total")
    old["seconds"] = {name: audit["seconds"][name] for name in names}
    old["detectors"] = {name: {key: entry[key] for key in DETECTOR_KEYS} for name, entry in audit["detectors"].items()}
    old["strips"] = []
    write_run(root / "2026-01-30" / "09-00-00", old)
    for job in (0, 1):
        write_run(root / "2026-01-31" / "10-00-00" / str(job), audit | {"seed": job})
    write_run(root / "mine" / "evidence_of_it" / "a" / "b" / "too_deep", audit)
    (root / ".cache").mkdir()
    (root / ".cache" / "status.json").write_text("{}")
    (root / "link").symlink_to(root / "2026-01-30")
    page = write_study(root).read_text()
    study = json.loads((root / "study.json").read_text())
    assert [arm["dir"] for arm in study["arms"]] == ["2026-01-30/09-00-00", "2026-01-31/10-00-00/0", "2026-01-31/10-00-00/1"]
    assert all(arm["audit"] for arm in study["arms"])
    links = [link for link in re.findall('href="(.*?)"', page) if not link.startswith("#")]
    assert links == [f"{arm['dir']}/report.html" for arm in study["arms"]] and all((root / link).is_file() for link in links)
