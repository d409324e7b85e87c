"""What a sanitizer is told to do; plain values, so that JSON, YAML and sweeps can hold them."""

from __future__ import annotations

from dataclasses import dataclass

from cxrguard.errors import CxrguardError

ACTIONS = ("repair", "strip", "drop_sentence", "fill", "randomize", "surrogate", "off")
PRIORS = ("keep", "drop")
ON_REFUSED = ("drop", "raise")


@dataclass(frozen=True)
class SanitizerSettings:
    """Settings of one sanitizer.

    Args:
        conventions: Names of marker conventions, ``auto`` (all but ``surrogates``), or paths of convention files (``*.yaml``).
        action: What becomes of a marker, one of :data:`ACTIONS`.
        cues: ``off``, ``canonicalize`` (rewrite boilerplate), or the path of a cue list; see :mod:`cxrguard.sanitizer.cues`.
        priors: ``keep`` or ``drop`` references to earlier studies.
        on_refused: ``drop`` (the prompt becomes ``""`` and is counted) or ``raise``.
        complete: Whether a repair may write a closed-class word or the one word that a collocation allows ("x-ray") in a
            marker's place; without it the phrase goes.
        seed: Of ``randomize`` and ``surrogate``.

    Raises:
        CxrguardError: For a value that is none, listing those there are.

    """

    conventions: tuple[str, ...] = ("mimic_cxr",)
    action: str = "repair"
    cues: str = "off"
    priors: str = "keep"
    on_refused: str = "drop"
    complete: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _check("action", self.action, ACTIONS)
        _check("priors policy", self.priors, PRIORS)
        _check("on_refused policy", self.on_refused, ON_REFUSED)


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise CxrguardError(f"Unknown sanitizer {what} {value!r}: known are {', '.join(known)}.")
