"""The real experiment on real films, with tiny step counts; skipped where the data set is missing."""

from __future__ import annotations

import pytest

from cxrguard.audit.record import read_audit
from cxrguard.data.nih_cxr14 import NihCxr14Reader
from tests.conftest import SHARED

DATA = SHARED / "data" / "nih_cxr14_1000"


@pytest.mark.skipif(not DATA.is_dir(), reason="no NIH ChestX-ray14 under $CXRGUARD_SHARED")
def test_nih_canaries_on_real_films(train, pipeline_dir, tmp_path):
    result = train(
        "experiment=nih_canaries",
        "model=pipeline",
        f"model.source={pipeline_dir}",
        f"data.root={DATA}",
        "base_stage.max_steps=2",
        "trainer.max_steps=2",
        "probes.every_n_steps=0",
        f"hydra.run.dir={tmp_path / 'out'}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    audit = read_audit(tmp_path / "out" / "audit.json")
    assert audit["steps"] == 2 and audit["run"]["data"]["reader"] == "NihCxr14Reader"
    assert audit["run"]["data"]["members"] > 100
    printed = result.stdout + result.stderr
    names = {record.dicom_id for record in NihCxr14Reader(str(DATA)).read()[0]}
    left = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".html", ".md", ".csv", ".yaml")]
    assert len(left) > 5
    assert not any(name in text for text in (printed, *(path.read_text() for path in left)) for name in names)
