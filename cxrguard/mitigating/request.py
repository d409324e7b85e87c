"""What is to be mitigated, and where the figures go."""

from __future__ import annotations

from dataclasses import dataclass

from cxrguard.errors import CxrguardError
from cxrguard.mitigating.catalogue import check_names
from cxrguard.scoring.request import check_paths

FIGURES: dict[str, type] = {"mitigation": str, "text_noise_norm": float, "evaluations": int, "change": float}
OWN, TEXT = "own_distance", "mitigated_prompt"


@dataclass(frozen=True)
class MitigateRequest:
    """One run of ``cxrguard mitigate``; see there.

    Args:
        model: a diffusers pipeline directory.
        source: the table of prompts, or ``-``.
        target: where the rows go, or ``-``.
        column: the prompts' column.
        image_column: the paths of their training images, or "".
        names: the mitigations; none for all.
        steps: DDIM steps of a sample.
        draws: samples a prompt.
        guidance_scale: of the samples.
        batch_size: samples at once.
        seed: of the noise and of the mitigations.
        write_prompts: write what was generated from.
        overwrite: replace columns of the added ones' names.
        progress: show a bar, if standard error is a terminal.

    Raises:
        CxrguardError: For what cannot work together, or a file that is missing.

    """

    model: str
    source: str
    target: str
    column: str = "prompt"
    image_column: str = ""
    names: tuple[str, ...] = ()
    steps: int = 20
    draws: int = 4
    guidance_scale: float = 3.0
    batch_size: int = 32
    seed: int = 0
    write_prompts: bool = False
    overwrite: bool = False
    progress: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", check_names(self.names))
        check_paths(self.source, self.target)
        for option, name in (("--prompt-column", self.column), ("--image-column", self.image_column)):
            if name in self.added:
                raise CxrguardError(f"{option} {name}: is the name of a column that is added. Rename it.")

    @property
    def added(self) -> dict[str, type]:
        """The columns that are added, and their types."""
        return FIGURES | ({OWN: float} if self.image_column else {}) | ({TEXT: str} if self.write_prompts else {})
