"""The spaCy component ``deid_sanitizer``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings

SPAN_KEY = "deid_markers"
_EXTENSIONS = ("sanitized", "sanitizer_edits", "sanitizer_status")
# Where spaCy keeps a Doc's extensions. Written at once, since going by doc._ takes as long as half of a clean text's check.
_KEYS: tuple[Any, ...] = tuple(("._.", name, None, None) for name in _EXTENSIONS)
_DEFAULTS: dict[str, Any] = asdict(SanitizerSettings()) | {"conventions": list(SanitizerSettings().conventions)}


def read_settings(
    conventions: Sequence[str] | str = ("mimic_cxr",), action: str | bool = "repair", cues: str | bool | None = "off", **others: Any
) -> SanitizerSettings:
    """Settings from what JSON, YAML and Hydra hand over.

    Args:
        conventions: Names or paths; a single one need not be a list.
        action: See :class:`SanitizerSettings`; False is ``off``, which is how YAML 1.1 reads a bare ``off``.
        cues: As ``action``; None is ``off``, too.
        **others: The other fields of :class:`SanitizerSettings`.

    Raises:
        CxrguardError: For an unknown setting or value, and for the action ``surrogate`` with the convention ``surrogates``.

    """
    names = [conventions] if isinstance(conventions, str) else conventions
    try:
        settings = SanitizerSettings(conventions=tuple(str(name) for name in names), action=_word(action), cues=_word(cues), **others)
    except TypeError:
        unknown = ", ".join(sorted(set(others) - set(_DEFAULTS)))
        raise CxrguardError(f"Unknown sanitizer setting(s) {unknown}: known are {', '.join(_DEFAULTS)}.") from None
    if settings.action == "surrogate" and "surrogates" in settings.conventions:
        raise CxrguardError(
            "The action surrogate writes false dates and names, which the convention surrogates would take for markers again. "
            "Leave surrogates out of the sanitizer's conventions, or choose another action."
        )
    return settings


def _word(value: str | bool | None) -> str:
    return "off" if value is None or str(value) == "False" else str(value)


class DeidSanitizer:
    """Sets ``doc._.sanitized``, ``sanitizer_edits``, ``sanitizer_status`` and ``doc.spans["deid_markers"]``.

    The Doc's own text stays as it is: a Doc's text cannot change. Nothing else of the Doc is read or written, so a user's
    model may stand before or after. spaCy's tokenizer, which runs first, is quadratic on a long run without blanks:
    :class:`~cxrguard.sanitizer.sanitizer.PromptSanitizer` needs none.

    Args:
        name: The component's name in its pipeline.
        settings: See :class:`SanitizerSettings`.

    Raises:
        CxrguardError: For an unknown convention.

    """

    def __init__(self, name: str = "deid_sanitizer", *, settings: SanitizerSettings | None = None) -> None:
        self.name = name
        self._configure(settings or SanitizerSettings())

    def _configure(self, settings: SanitizerSettings) -> None:
        self.settings = settings
        self.marks_spans = True  # False where only the text is wanted: a third of the cost of a short text
        # The policy for what is refused is applied here, where it is known what the text belongs to.
        self._core = TextSanitizer(replace(settings, on_refused="drop"))
        # In the component and not only at import: a Doc unpickled in a worker finds them too.
        for extension in _EXTENSIONS:
            if not Doc.has_extension(extension):
                Doc.set_extension(extension, default=None)

    def __call__(self, doc: Doc) -> Doc:
        """Annotates one Doc.

        Raises:
            CxrguardError: If the text is refused and ``on_refused`` is ``raise``; the message holds no text.

        """
        text = doc.text  # once: spaCy puts it together from the tokens each time
        result = self._core.sanitize(text)
        if result.status == "refused" and self.settings.on_refused == "raise":
            raise CxrguardError(
                f"{self.name} refused a text of {len(text)} characters: none of its repairs is known to keep every fact. "
                "Look at the text, or set on_refused to drop."
            )
        values = (result.text, [edit.as_dict() for edit in result.edits], result.status)
        doc.user_data.update(zip(_KEYS, values, strict=True))
        if self.marks_spans:
            markers = self._core.markers_of(text, result).spans
            doc.spans[SPAN_KEY] = self._spans(doc, markers) if markers else []
        return doc

    def _spans(self, doc: Doc, markers: Sequence[tuple[int, int]]) -> list[Span]:
        # The tokenizer takes "___" apart, so markers are found in the text and widened to whole tokens; two in one token are one span.
        # As Doc.char_span with alignment_mode="expand" does it, which looks at every token for every marker.
        begins = doc.to_array("IDX")
        firsts = np.searchsorted(begins, [start for start, _ in markers], side="right") - 1
        ends = np.searchsorted(begins, [end - 1 for _, end in markers], side="right")
        return [Span(doc, first, end) for first, end in dict.fromkeys(zip(firsts.tolist(), ends.tolist(), strict=True))]

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.name = state["name"]
        self._configure(state["settings"])

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The configuration as bytes (JSON)."""
        return json.dumps(asdict(self.settings)).encode()

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> DeidSanitizer:
        """Takes over a configuration from :meth:`to_bytes`."""
        self._configure(read_settings(**json.loads(data)))
        return self

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Writes the configuration to the directory ``path``."""
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "config.json").write_bytes(self.to_bytes())

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> DeidSanitizer:
        """Takes over a configuration from :meth:`to_disk`."""
        return self.from_bytes((Path(path) / "config.json").read_bytes())


@Language.factory(
    "deid_sanitizer",
    assigns=["doc._.sanitized", "doc._.sanitizer_edits", "doc._.sanitizer_status", "doc.spans"],
    default_config=_DEFAULTS,
)
def create_deid_sanitizer(
    nlp: Language,
    name: str,
    conventions: list[str] | str,
    action: str | bool,
    cues: str | bool,
    priors: str,
    on_refused: str,
    complete: bool,
    seed: int,
) -> DeidSanitizer:
    """Factory for ``nlp.add_pipe("deid_sanitizer", config={...})``; the config's keys are the fields of :class:`SanitizerSettings`."""
    settings = read_settings(conventions, action, cues, priors=priors, on_refused=on_refused, complete=complete, seed=seed)
    return DeidSanitizer(name, settings=settings)
