"""The page in headless Chromium: drawn on a desk, on a phone and on paper, in grey, with hostile text that stays text."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxrguard.audit.report import write_report

Audit = dict[str, Any]
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt-get install chromium)")


def browse(page: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={page.parent / 'profile'}"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile, *arguments, page.as_uri()]
    return subprocess.run([CHROMIUM, *flags], capture_output=True, text=True, timeout=200, check=True).stdout


@pytest.fixture
def page(rewrite: Callable[[Audit], Path], audit: Audit) -> Path:
    audit["run"]["command"] = HOSTILE
    audit["verdict"]["reasons"].append(HOSTILE)
    return write_report(rewrite(audit))


@pytest.mark.parametrize(("width", "height"), [(1280, 2400), (390, 2400)])
def test_it_is_drawn_and_nothing_sticks_out(page: Path, tmp_path: Path, width: int, height: int) -> None:
    browse(page, f"--window-size={width},{height}", f"--screenshot={tmp_path / 'shot.png'}")
    with Image.open(tmp_path / "shot.png") as image:
        grey = np.asarray(image.convert("L"), dtype=float)
    assert grey.shape == (height, width) and grey.std() > 10, "an empty page"
    margin = grey[:, -4:]
    assert (np.abs(margin - np.median(margin)) < 2).mean() > 0.99, "something reaches over the right edge"


def test_the_page_is_whole_and_runs_no_script(page: Path) -> None:
    dom = browse(page, "--dump-dom")
    assert "owned</title>" not in dom and "memorization audit</title>" in dom
    assert "<script" not in dom and "&lt;script&gt;" in dom
    sections = set(re.findall(r"<h2>(.*?)</h2>", dom))
    assert {"Extraction", "ROC curves", "Words and markers", "What the guard did", "What it cost", "How to reproduce it"} <= sections
    assert dom.index("Must not be released") < dom.index("<h2>")


def test_it_prints(page: Path, tmp_path: Path) -> None:
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    pdf = (tmp_path / "report.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert pdf.startswith(b"%PDF") and 3 <= pages <= 20
