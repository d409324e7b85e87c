"""The mitigations at inference by name, as the command and the audit build them: published defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.inference.attention_rescaling import AttentionRescaling
from cxrguard.mitigations.inference.base import InferenceMitigation
from cxrguard.mitigations.inference.dynamic_transition import DynamicTransition
from cxrguard.mitigations.inference.embedding_optimization import EmbeddingOptimization
from cxrguard.mitigations.inference.initial_noise import InitialNoise
from cxrguard.mitigations.inference.initial_noise_per_sample import InitialNoisePerSample
from cxrguard.mitigations.inference.marker_removal import MarkerRemoval
from cxrguard.mitigations.inference.opposite_guidance import OppositeGuidance
from cxrguard.mitigations.inference.random_number import RandomNumber
from cxrguard.mitigations.inference.random_token import RandomToken
from cxrguard.mitigations.inference.random_word import RandomWord
from cxrguard.mitigations.inference.sail import Sail
from cxrguard.mitigations.inference.sanitizing import Sanitizing
from cxrguard.mitigations.inference.static_transition import StaticTransition
from cxrguard.mitigations.inference.word_repeat import WordRepeat

NONE = "none"
_NOISE_ITERATIONS = 100


def _sanitizing() -> InferenceMitigation:
    from cxrguard.sanitizer.sanitizer import PromptSanitizer  # spaCy takes a second that the others need not pay

    return Sanitizing(PromptSanitizer("auto"))


MITIGATIONS: dict[str, Callable[[], InferenceMitigation]] = {
    "random_word": RandomWord,
    "random_number": RandomNumber,
    "random_token": RandomToken,
    "word_repeat": WordRepeat,
    "marker_removal": MarkerRemoval,
    "sanitizer": _sanitizing,
    "embedding_optimization": EmbeddingOptimization,
    "attention_rescaling": AttentionRescaling,
    "static_transition": StaticTransition,
    "dynamic_transition": DynamicTransition,
    "opposite_guidance": OppositeGuidance,
    "initial_noise": InitialNoise,
    # The published code's 1,000 would cost fifty times the sampling; most samples reach their target sooner or never.
    "initial_noise_per_sample": lambda: InitialNoisePerSample(iterations=_NOISE_ITERATIONS),
    "sail": Sail,
}


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The mitigations to run, each once, ``none`` first; all of them where none is named.

    Raises:
        CxrguardError: For a name that stands for nothing.

    """
    wanted = tuple(dict.fromkeys(names)) or tuple(MITIGATIONS)
    if unknown := [name for name in wanted if name not in MITIGATIONS and name != NONE]:
        raise CxrguardError(f"Unknown mitigation {unknown[0]!r}: known are {', '.join(MITIGATIONS)}.")
    return (NONE, *(name for name in wanted if name != NONE))


def build(name: str) -> InferenceMitigation:
    """A mitigation by its checked name."""
    return InferenceMitigation() if name == NONE else MITIGATIONS[name]()
