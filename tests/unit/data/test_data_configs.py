"""The data configs: every reader's arguments exist, and interpolations point at keys of the file."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[3] / "conf" / "data"


NAMES = ["phantom", "nih_cxr14", "table", "mimic_cxr_jpg", "open_i", "chexpert_plus", "padchest", "llavarad", "webdataset"]


@pytest.mark.parametrize("name", NAMES)
def test_config_fits_its_reader(name: str) -> None:
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    target = config["reader"].pop("_target_")
    module, _, attribute = target.rpartition(".")
    reader = getattr(importlib.import_module(module), attribute)
    assert set(config["reader"]) <= set(inspect.signature(reader).parameters)
    assert {"root", "batch_size", "image_size", "max_bad_fraction", "heldout_fraction", "deid_markers"} <= set(config)
    for value in config["reader"].values():
        match = re.fullmatch(r"\$\{data\.(\w+)\}", str(value))
        assert match is None or match[1] in config
    values = {k: config[m[1]] if (m := re.fullmatch(r"\$\{data\.(\w+)\}", str(v))) else v for k, v in config["reader"].items()}
    reader(**values)
