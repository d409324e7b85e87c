"""From a reader to what is trained on and probed: quarantine, split, canaries, sanitizer, uniqueness.

Pure steps without Lightning; the datamodule calls :func:`prepare_study`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from cxrguard.data.cache import open_cache
from cxrguard.data.canaries import CanaryPlan, check_unique, plant_canaries
from cxrguard.data.images import load_pixels
from cxrguard.data.near_copies import images_of_copies, with_near_copies
from cxrguard.data.pixels import read_pixels
from cxrguard.data.prompt_form import PromptForm
from cxrguard.data.quarantine import check_fraction, write_quarantine
from cxrguard.data.records import Quarantined, Reader, ReportRecord
from cxrguard.data.splits import split_by_patient
from cxrguard.data.steering import keep_for_steering
from cxrguard.data.window import parse_window
from cxrguard.errors import BadInputError, CxrguardError, ImageError
from cxrguard.sanitizer.sanitizer import PromptSanitizer


@dataclass(frozen=True)
class CanarySettings:
    """How the ground truth is planted; see :func:`cxrguard.data.canaries.plant_canaries`.

    Args:
        n: canaries; 0 plants none (for a base stage: a run that is judged needs some).
        repeats: showings of each canary an epoch, a number or one for each.
        n_controls: held-out prompts that are probed and generated like the canaries.
        n_members: ordinary members that are probed and generated.
        max_share: most that canaries may make of the samples drawn.
        deid_markers: canaries, controls and members carry a lead with ``___``.
        n_prompt_controls: more controls that are only prompts. TPR at 1 % FPR needs 100 controls in all, at 0.1 % 1,000.
        arms: see :class:`~cxrguard.data.prompt_form.PromptForm`; empty but in a study of the marker itself.
        arm_shift: see there.
        n_steering: held-out samples that a guard sets its thresholds with. They judge nothing, so arms that are compared need the same
            number, a guard or none.
        near_copies: a canary's repeats are near-duplicates of it (crop, greys, wording) rather than the same sample again.

    """

    n: int = 16
    repeats: int | Sequence[int] = 8
    n_controls: int = 100
    n_members: int = 48
    max_share: float = 0.25
    deid_markers: bool = True
    n_prompt_controls: int = 0
    arms: Sequence[str] = ()
    arm_shift: int = 0
    n_steering: int = 0
    near_copies: bool = False

    def form(self, seed: int) -> PromptForm:
        """The form of every prompt of the study."""
        return PromptForm(seed, self.deid_markers, tuple(self.arms), self.arm_shift)


@dataclass(frozen=True, slots=True)
class PromptedRecord:
    """A record with the prompt that is trained on; ``record.prompt`` is the original.

    ``pixels`` are uint8 ``[H, W]``, a read-only view of a mapped file where the data set's images are files.
    """

    record: ReportRecord
    sanitized: str
    pixels: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Study:
    """Everything a run trains on and judges with; all groups are disjoint, and disjoint by patient but for members.

    ``arms`` are those of the canaries and the controls in a study of the marker itself, by group, else empty. ``cache_dir`` is where
    latents of its images are kept. ``duplicates`` are counts, see :meth:`~cxrguard.data.duplicates.Duplicates.summary`; empty where
    none were looked for. ``repeats`` count near copies of a canary too; these are ``copies``, each of the canary ``copy_of``.
    ``recaptioned``: the prompts that are trained on are made of labels, and several samples may have the same.
    """

    members: list[PromptedRecord]
    canaries: list[PromptedRecord]
    controls: list[PromptedRecord]
    heldout: list[PromptedRecord]
    repeats: tuple[int, ...]
    sanitizer_counts: dict[str, Any]
    n_quarantined: int
    prompt_controls: list[PromptedRecord] = field(default_factory=list)
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cache_dir: Path | None = None
    duplicates: dict[str, int] = field(default_factory=dict)
    steering: list[PromptedRecord] = field(default_factory=list)
    copies: list[PromptedRecord] = field(default_factory=list)
    copy_of: tuple[int, ...] = ()
    recaptioned: bool = False

    def subjects(self) -> frozenset[str]:
        """Every patient of the study, whatever the group."""
        groups = (self.members, self.canaries, self.controls, self.heldout, self.steering)
        return frozenset(p.record.subject_id for group in groups for p in group)

    @property
    def trained(self) -> list[PromptedRecord]:
        """Every sample that is trained on: members, canaries, then near copies of canaries."""
        return [*self.members, *self.canaries, *self.copies]

    @property
    def showings(self) -> list[int]:
        """How often an epoch shows each of :attr:`trained`."""
        canaries = [1] * len(self.canaries) if self.copies else list(self.repeats)
        return [1] * len(self.members) + canaries + [1] * len(self.copies)

    @property
    def share(self) -> float:
        """Share of the samples drawn that are canaries or near copies of them."""
        return sum(self.repeats) / max(sum(self.repeats) + len(self.members), 1)


def load_images(
    records: Sequence[ReportRecord], size: int, window: Sequence[float] | str | None = None, cache_dir: Path | None = None
) -> tuple[list[tuple[ReportRecord, np.ndarray]], list[Quarantined]]:
    """Read every image once; the unusable ones come back as quarantined rows.

    Images of files are not in memory: they are views of a file in ``cache_dir``, or of one that is gone when nothing uses it.
    """
    paths = [r.image_path for r in records if r.pixels is None]
    settings = {"size": size, "window": parse_window(window)}
    with open_cache(cache_dir if paths else None) as cache:
        read = iter(read_pixels(cache, paths, partial(load_pixels, size=size, window=window), settings) if paths else [])
    loaded = [r.pixels if r.pixels is not None else next(read) for r in records]
    good = [(r, x) for r, x in zip(records, loaded, strict=True) if not isinstance(x, ImageError)]
    return good, [Quarantined(r.row, str(x)) for r, x in zip(records, loaded, strict=True) if isinstance(x, ImageError)]


def read_usable(
    reader: Reader,
    size: int,
    max_bad_fraction: float,
    out_dir: Path,
    window: Sequence[float] | str | None = None,
    cache_dir: Path | None = None,
) -> tuple[list[ReportRecord], dict[str, np.ndarray], int]:
    """Read the data set and set aside what cannot be used (``quarantine.csv``, rows and reasons only).

    Raises:
        BadInputError: more than ``max_bad_fraction`` is unusable, or nothing is left.

    """
    records, bad = reader.read()
    good, unreadable = load_images(records, size, window, cache_dir)
    bad = sorted([*bad, *unreadable], key=lambda q: q.row)
    total = len(good) + len(bad)
    if bad:
        write_quarantine(out_dir / "quarantine.csv", bad)
        check_fraction(len(bad), total, max_bad_fraction, bad, out_dir / "quarantine.csv")
    if not good:
        raise BadInputError("the data set has no usable sample; check data.root and the views that are asked for")
    return [r for r, _ in good], {r.dicom_id: x for r, x in good}, len(bad)


def plan(records: list[ReportRecord], heldout_fraction: float, canaries: CanarySettings, seed: int) -> CanaryPlan:
    """Split by patient and plant; without canaries the held-out records are all kept as held-out."""
    parts = split_by_patient(records, {"train": 1 - heldout_fraction, "heldout": heldout_fraction}, seed)
    if canaries.n == 0:
        return CanaryPlan(members=parts["train"], canaries=[], repeats=[], controls=[], heldout=parts["heldout"])
    repeats = canaries.repeats if isinstance(canaries.repeats, int) else list(canaries.repeats)
    planned = plant_canaries(
        parts["train"],
        parts["heldout"],
        n=canaries.n,
        repeats=repeats,
        n_controls=canaries.n_controls,
        form=canaries.form(seed),
        seed=seed,
        max_share=canaries.max_share,
        n_prompt_controls=canaries.n_prompt_controls,
    )
    planned = with_near_copies(planned, seed) if canaries.near_copies else planned
    return keep_for_steering(planned, canaries.n_steering, seed)


def sanitize_plan(
    planned: CanaryPlan, pixels: dict[str, np.ndarray], sanitizer: PromptSanitizer, n_quarantined: int, seed: int = 0
) -> Study:
    """Run the sanitizer over all prompts; refused and emptied ordinary samples are left out and counted.

    So are refused and emptied prompt-only controls, but for the counts: those are the data set's. ``seed`` is that of near copies.
    """
    pixels = pixels | images_of_copies(planned, pixels, seed)
    groups = {name: getattr(planned, name) for name in ("members", "canaries", "controls", "heldout", "steering", "copies")}
    result = sanitizer.sanitize([r.prompt for group in groups.values() for r in group])
    borrowed = sanitizer.sanitize([r.prompt for r in planned.prompt_controls]) if planned.prompt_controls else None
    groups["prompt_controls"] = planned.prompt_controls
    texts, statuses = [*result.prompts], [*result.statuses]
    if borrowed:
        texts, statuses = texts + borrowed.prompts, statuses + borrowed.statuses
    kept: dict[str, list[PromptedRecord]] = {name: [] for name in groups}
    labelled = [(name, record) for name, group in groups.items() for record in group]
    for (name, record), text, status in zip(labelled, texts, statuses, strict=True):
        if status in ("refused", "emptied") and name in ("canaries", "controls", "copies"):
            raise CxrguardError(f"the sanitizer {status} the prompt of one of the {name}; report this: the prompt form must survive")
        if status not in ("refused", "emptied"):
            kept[name].append(PromptedRecord(record, text, pixels[record.dicom_id]))
    return Study(
        members=kept["members"],
        canaries=kept["canaries"],
        controls=kept["controls"],
        heldout=kept["heldout"],
        prompt_controls=kept["prompt_controls"],
        repeats=tuple(planned.repeats),
        sanitizer_counts=dict(result.counts),
        n_quarantined=n_quarantined,
        arms=planned.arms,
        steering=kept["steering"],
        copies=kept["copies"],
        copy_of=tuple(planned.copy_of),
    )


def check_study(study: Study, tokenizer: Any) -> None:
    """Planted prompts are told apart before sanitizing, after it, and as the token ids that the encoder sees."""
    groups = {name: getattr(study, name) for name in ("canaries", "controls", "members", "prompt_controls")}
    if not study.canaries:
        return
    check_unique({name: [p.record.prompt for p in group] for name, group in groups.items()}, "original prompts")
    if study.recaptioned:  # shared by design: what comes back is traced by its image
        return
    check_unique({name: [p.sanitized for p in group] for name, group in groups.items()}, "sanitized prompts")
    encode = {name: [_short(tokenizer(p.sanitized, truncation=True).input_ids) for p in group] for name, group in groups.items()}
    check_unique(encode, "token ids after truncation")


def _short(token_ids: Sequence[int]) -> bytes:
    """16 bytes that stand for the ids, which would take 2 kB a prompt."""
    return blake2b(np.asarray(token_ids, np.int64).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class WithoutPatients:
    """A reader without some patients: a base stage must not see those of the fine-tuning."""

    reader: Reader
    subjects: frozenset[str]

    def read(self) -> tuple[list[ReportRecord], list[Quarantined]]:
        """See :class:`~cxrguard.data.records.Reader`."""
        records, bad = self.reader.read()
        return [r for r in records if r.subject_id not in self.subjects], bad
