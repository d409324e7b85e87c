"""Looks for protected text in what a run left and printed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cxrguard.data.prepare import CanarySettings, plan
from cxrguard.data.records import ReportRecord


def sentences(prompt: str) -> set[str]:
    """The prompt's sentences and leads that are long enough to be told from chance."""
    parts = {part.strip() for mark in ("FINDINGS:", "IMPRESSION:", ", ") for part in prompt.replace(mark, ". ").split(". ")}
    return {prompt} | {part for part in parts if len(part.split()) >= 4}


def protected(records: Iterable[ReportRecord], canaries: CanarySettings, heldout_fraction: float, seed: int = 0) -> set[bytes]:
    """Every prompt's sentences (the planted decoration too) and every id of a data set; none holds another."""
    records = list(records)
    planned = plan(records, heldout_fraction, canaries, seed)
    prompts = [r.prompt for group in (records, planned.members, planned.canaries, planned.controls) for r in group]
    ids = {i for r in records for i in (r.subject_id, r.study_id, r.dicom_id)}
    shortest: list[str] = []
    for text in sorted(ids.union(*map(sentences, prompts)), key=len):
        if not any(part in text for part in shortest):
            shortest.append(text)
    return {text.encode() for text in shortest}


def leaks(directory: Path, secrets: Iterable[bytes], *printed: str) -> list[str]:
    """Where a secret occurs (never which): file names, bytes of files of any kind, and ``printed`` text."""
    secrets = list(secrets)
    places = {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
    places |= {f"output {i}": text.encode() for i, text in enumerate(printed)}
    names = "\n".join(places).encode()
    return [place for place, content in places.items() if any(s in content for s in secrets)] + [
        "a file name" for s in secrets if s in names
    ]
