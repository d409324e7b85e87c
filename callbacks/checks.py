"""What is found out before anything is trained, since it would cost the run after it."""

from __future__ import annotations

from cxrguard.audit.evaluate import Evaluator
from cxrguard.data.prepare import Study
from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.loading import PipelineParts
from cxrguard.errors import CxrguardError
from cxrguard.probes.batch import Probe


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
