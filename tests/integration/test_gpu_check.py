"""``make gpu-check`` on a machine without a GPU, and its code on a CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

SCRIPT = "benchmarks/gpu_check.py"


def run(root, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], cwd=root, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_gives_no_figure(request):
    result = run(request.config.rootpath)
    assert result.returncode == 0 and "finds no GPU here, so nothing was run" in result.stdout and "|" not in result.stdout


def test_the_table_has_every_figure(request):
    result = run(request.config.rootpath, "--tiny", "--batch", "2", "--steps", "1")
    assert result.returncode == 0, result.stderr
    for name in ("device", "UNet", "samples/s", "MFU", "peak memory", "a round of probes"):
        assert f"| {name}" in result.stdout
