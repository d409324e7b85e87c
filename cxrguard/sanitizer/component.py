"""The spaCy component ``deid_sanitizer``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from spacy.language import Language
from spacy.tokens import Doc

from cxrguard.sanitizer.conventions import find_markers, load_conventions
from cxrguard.sanitizer.pipeline import check_action, sanitize_text

SPAN_KEY = "deid_markers"
_EXTENSIONS: dict[str, object] = {"sanitized": None, "sanitizer_edits": None, "sanitizer_status": None}


class DeidSanitizer:
    """Sets ``doc._.sanitized``, ``sanitizer_edits``, ``sanitizer_status`` and ``doc.spans["deid_markers"]``.

    The Doc's own text stays as it is: a Doc's text cannot change.

    Args:
        name: The component's name in its pipeline.
        conventions: Names of marker conventions.
        action: ``repair``, ``drop_sentence``, ``strip`` or ``off``.

    Raises:
        CxrguardError: For an unknown convention or action.

    """

    def __init__(self, name: str = "deid_sanitizer", *, conventions: Sequence[str], action: str = "repair") -> None:
        self.name = name
        self._configure(conventions, action)

    def _configure(self, conventions: Sequence[str], action: str) -> None:
        check_action(action)
        self._conventions = load_conventions(conventions)
        self.conventions = list(conventions)
        self.action = action
        # In the component and not only at import: a Doc unpickled in a worker finds them too.
        for extension, default in _EXTENSIONS.items():
            if not Doc.has_extension(extension):
                Doc.set_extension(extension, default=default)

    def __call__(self, doc: Doc) -> Doc:
        """Annotates one Doc."""
        text = doc.text
        result = sanitize_text(text, self._conventions, self.action)
        doc._.sanitized = result.text
        doc._.sanitizer_status = result.status
        doc._.sanitizer_edits = [asdict(edit) for edit in result.edits]
        # The tokenizer takes "___" apart, so markers are found in the text and widened to whole tokens.
        spans = (doc.char_span(start, end, alignment_mode="expand") for start, end in find_markers(text, self._conventions))
        doc.spans[SPAN_KEY] = [span for span in spans if span is not None]
        return doc

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The configuration as bytes."""
        return json.dumps({"conventions": self.conventions, "action": self.action}).encode()

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> DeidSanitizer:
        """Takes over a configuration from :meth:`to_bytes`."""
        self._configure(**json.loads(data))
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
    default_config={"conventions": ["mimic_cxr"], "action": "repair"},
)
def create_deid_sanitizer(nlp: Language, name: str, conventions: list[str], action: str) -> DeidSanitizer:
    """Factory for ``nlp.add_pipe("deid_sanitizer", config={...})``; see :class:`DeidSanitizer`."""
    return DeidSanitizer(name, conventions=conventions, action=action)
