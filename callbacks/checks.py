"""What is found out before anything is trained, since it would cost the run after it."""

from __future__ import annotations

from typing import Any

from cxrguard.audit.evaluate import Evaluator
from cxrguard.data.prepare import Study
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import CxrguardError
from cxrguard.probes.batch import Probe

_SPLIT = "splits the weights over the processes, and the probes, the audit and the export need them whole in one"
_REFUSED = {
    "fsdp": _SPLIT,
    "modelparallel": _SPLIT,
    "deepspeed": "writes each checkpoint as a directory of its own kind, which ckpt_path=last cannot check and go on from",
}


def check_setting(study: Study, parts: PipelineParts, image_size: int) -> None:
    """Find out before anything is trained what would fail, or mean nothing, after it.

    Raises:
        CxrguardError: nothing is planted to judge with, or the images are not of the size that the model generates.

    """
    if not study.canaries or not study.controls:
        raise CxrguardError(
            "the run has nothing to judge with; set canaries.n and canaries.n_controls above 0. Without canaries the extraction rate, each "
            "detector's AUC, TPR, threshold and exposure would be null, without controls also spillover, and the verdict could only refuse"
        )
    expected = parts.image_size or image_size
    if image_size != expected:
        raise CxrguardError(
            f"data.image_size={image_size}, but the model generates {expected} pixels a side; set data.image_size={expected}"
        )


def check_probes(evaluator: Evaluator, denoiser: Denoiser, probes: list[Probe]) -> None:
    """Let every detector score one prompt before anything is trained: a failure in the final audit would cost the run.

    Raises:
        CxrguardError: a detector does not take this model; its own message where it has one.

    """
    one = evaluator.looking_at(canaries=[0])
    for probe in probes:
        try:
            one.score(denoiser, probe, "canaries")
        except CxrguardError:
            raise
        except Exception as error:
            raise CxrguardError(
                f"the detector {probe.name!r} cannot score with this model ({type(error).__name__}); leave it out with ~probe.{probe.name}"
            ) from error


def check_privacy(config: dict[str, Any]) -> None:
    """Find out before anything is loaded what private training cannot go with.

    Raises:
        CxrguardError: a setting under which per-sample gradients or the account of ε would be wrong.

    """
    guard, module, trainer = config["guard"], config["model"]["module"], config["trainer"]
    if not guard["dp"]:
        return
    needed = {
        "model.module.unet": (module["unet"], ("lora",)),
        "model.module.text_encoder": (module["text_encoder"], ("frozen",)),
        "model.module.compile": (module.get("compile", False), (False,)),
        "model.module.gradient_checkpointing": (module.get("gradient_checkpointing", False), (False,)),
        "trainer.accumulate_grad_batches": (trainer["accumulate_grad_batches"], (1,)),
        "trainer.precision": (str(trainer["precision"]), ("32-true", "32")),
        "trainer.devices": (str(trainer["devices"]), ("1",)),
        "trainer.num_nodes": (trainer.get("num_nodes", 1), (1,)),
        # what one sample is then trained on would depend on the others
        "guard.captions.variants": (guard["captions"]["variants"], (1,)),
        "guard.repeats.images": (guard["repeats"]["images"], ("off",)),
        "guard.repeats.prompts": (guard["repeats"]["prompts"], ("off",)),
    }
    wrong = [f"{name}={allowed[0]}, not {value}" for name, (value, allowed) in needed.items() if value not in allowed]
    if wrong:
        raise CxrguardError(f"guard=dp treats each sample by itself; it needs {'; '.join(wrong)}")


def strategy_name(strategy: Any) -> str:
    """``trainer.strategy`` as Lightning names it, e.g. ``deepspeed_stage_2``; of a ``_target_`` the class, in small letters."""
    named = strategy.get("_target_", "") if isinstance(strategy, dict) else strategy
    return str(named).rpartition(".")[2].lower()


def check_strategy(strategy: Any) -> None:
    """Find out before anything is loaded whether the run can be judged and resumed under ``trainer.strategy``.

    Raises:
        CxrguardError: it splits the weights over the processes, or writes checkpoints in a form of its own.

    """
    name = strategy_name(strategy)
    for family, why in _REFUSED.items():
        if name.startswith(family):
            raise CxrguardError(
                f"trainer.strategy={name} {why}; use trainer.strategy=ddp. Where memory is short: trainer.precision=bf16-mixed, "
                "model.module.gradient_checkpointing=true, model.module.unet=lora, model.module.optimizer=adamw_8bit"
            )
