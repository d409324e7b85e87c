"""What is refused before anything is loaded."""

from __future__ import annotations

import pytest

from callbacks.checks import check_strategy
from cxrguard.errors import CxrguardError


@pytest.mark.parametrize(
    "strategy",
    [
        "fsdp",
        "fsdp_cpu_offload",
        "deepspeed",
        "deepspeed_stage_3_offload",
        {"_target_": "pytorch_lightning.strategies.FSDPStrategy"},
        {"_target_": "pytorch_lightning.strategies.ModelParallelStrategy"},
        {"_target_": "pytorch_lightning.strategies.DeepSpeedStrategy", "stage": 1},
    ],
)
def test_strategies_that_cannot_be_judged_name_the_remedy(strategy: object) -> None:
    with pytest.raises(CxrguardError, match=r"trainer\.strategy=\w+ (splits|writes).*use trainer\.strategy=ddp"):
        check_strategy(strategy)


@pytest.mark.parametrize(
    "strategy", ["auto", "ddp", "ddp_spawn", "ddp_find_unused_parameters_true", {"_target_": "pytorch_lightning.strategies.DDPStrategy"}]
)
def test_others_pass(strategy: object) -> None:
    check_strategy(strategy)
