"""From a reader to what is trained on and probed: quarantine, split, canaries, sanitizer, uniqueness.

Pure steps without Lightning; the datamodule calls :func:`prepare_study`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrguard.data.cache import open_cache
from cxrguard.data.canaries import CanaryPlan, check_unique, plant_canaries
from cxrguard.data.image_index import ImageIndex
from cxrguard.data.images import load_pixels
from cxrguard.data.lazy import Joined, Keep, Mapped, Selected
from cxrguard.data.near_copies import images_of_copies, with_near_copies
from cxrguard.data.pixels import read_pixels
from cxrguard.data.prompt_form import PromptForm
from cxrguard.data.quarantine import check_fraction, write_quarantine
from cxrguard.data.records import Quarantined, Reader, ReportRecord
from cxrguard.data.sanitized import sanitized
from cxrguard.data.splits import split_by_patient
from cxrguard.data.steering import keep_for_steering
from cxrguard.data.window import parse_window
from cxrguard.errors import BadInputError, CxrguardError
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
    pixels: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Study:
    """Everything a run trains on and judges with; all groups are disjoint, and disjoint by patient but for members.

    ``arms`` are those of the canaries and the controls in a study of the marker itself, by group, else empty. ``cache_dir`` is where
    latents of its images are kept. ``duplicates`` are counts, see :meth:`~cxrguard.data.duplicates.Duplicates.summary`; empty where
    none were looked for. ``repeats`` count near copies of a canary too; these are ``copies``, each of the canary ``copy_of``.
    ``recaptioned``: the prompts that are trained on are made of labels, and several samples may have the same.
    """

    members: Sequence[PromptedRecord]
    canaries: Sequence[PromptedRecord]
    controls: Sequence[PromptedRecord]
    heldout: Sequence[PromptedRecord]
    repeats: tuple[int, ...]
    sanitizer_counts: dict[str, Any]
    n_quarantined: int
    prompt_controls: Sequence[PromptedRecord] = ()
    arms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cache_dir: Path | None = None
    duplicates: dict[str, int] = field(default_factory=dict)
    steering: Sequence[PromptedRecord] = ()
    copies: Sequence[PromptedRecord] = ()
    copy_of: tuple[int, ...] = ()
    recaptioned: bool = False

    def subjects(self) -> frozenset[str]:
        """Every patient of the study, whatever the group."""
        groups = (self.members, self.canaries, self.controls, self.heldout, self.steering)
        return frozenset(p.record.subject_id for group in groups for p in group)

    @property
    def trained(self) -> Sequence[PromptedRecord]:
        """Every sample that is trained on: members, canaries, then near copies of canaries."""
        return Joined(self.members, self.canaries, self.copies)

    @property
    def showings(self) -> list[int]:
        """How often an epoch shows each of :attr:`trained`."""
        canaries = [1] * len(self.canaries) if self.copies else list(self.repeats)
        return [1] * len(self.members) + canaries + [1] * len(self.copies)

    @property
    def share(self) -> float:
        """Share of the samples drawn that are canaries or near copies of them."""
        return sum(self.repeats) / max(sum(self.repeats) + len(self.members), 1)


Imaged = tuple[ReportRecord, np.ndarray]


def load_images(
    records: Sequence[ReportRecord], size: int, window: Sequence[float] | str | None = None, cache_dir: Path | None = None
) -> tuple[Sequence[Imaged], list[Quarantined]]:
    """Read every image once; the unusable ones come back as quarantined rows.

    Images of files are not in memory: they are views of a file in ``cache_dir``, or of one that is gone when nothing uses it.
    """
    numbers = np.array([i for i, r in enumerate(records) if r.pixels is None], np.int64)
    paths = Mapped(Selected(records, numbers), attrgetter("image_path"))
    settings = {"size": size, "window": parse_window(window)}
    with open_cache(cache_dir if paths else None) as cache:
        read = read_pixels(cache, paths, partial(load_pixels, size=size, window=window), settings)
    bad = {int(numbers[i]): error for i, error in sorted(read.errors.items())}
    loaded = Mapped(range(len(records)), partial(_with_image, records, read, numbers))
    good = Selected(loaded, (i for i in range(len(records)) if i not in bad))
    return good, [Quarantined(records[i].row, str(error)) for i, error in bad.items()]


def _with_image(records: Sequence[ReportRecord], read: Sequence[Any], numbers: NDArray[np.int64], index: int) -> Imaged:
    """A record with its own image, or the one that was read; ``numbers`` are those of the records whose images were."""
    record = records[index]
    return record, read[int(np.searchsorted(numbers, index))] if record.pixels is None else record.pixels


def read_usable(
    reader: Reader,
    size: int,
    max_bad_fraction: float,
    out_dir: Path,
    window: Sequence[float] | str | None = None,
    cache_dir: Path | None = None,
    keep: Keep = list,
) -> tuple[Sequence[ReportRecord], Mapping[str, np.ndarray], int]:
    """Read the data set and set aside what cannot be used (``quarantine.csv``, rows and reasons only).

    ``keep`` keeps the records. Returns them, their images by ``dicom_id``, and how many samples were set aside.

    Raises:
        BadInputError: more than ``max_bad_fraction`` is unusable, or nothing is left.

    """
    records, bad = reader.read(keep)
    good, unreadable = load_images(records, size, window, cache_dir)
    bad = sorted([*bad, *unreadable], key=lambda q: q.row)
    total = len(good) + len(bad)
    if bad:
        write_quarantine(out_dir / "quarantine.csv", bad)
        check_fraction(len(bad), total, max_bad_fraction, bad, out_dir / "quarantine.csv")
    if not good:
        raise BadInputError("the data set has no usable sample; check data.root and the views that are asked for")
    usable = Mapped(good, itemgetter(0))
    return usable, ImageIndex(Mapped(usable, attrgetter("dicom_id")), Mapped(good, itemgetter(1))), len(bad)


def plan(records: Sequence[ReportRecord], heldout_fraction: float, canaries: CanarySettings, seed: int, keep: Keep = list) -> CanaryPlan:
    """Split by patient and plant; without canaries the held-out records are all kept as held-out.

    ``keep`` keeps the records with the prompts of the study.
    """
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
        keep=keep,
    )
    planned = with_near_copies(planned, seed) if canaries.near_copies else planned
    return keep_for_steering(planned, canaries.n_steering, seed)


def sanitize_plan(
    planned: CanaryPlan, pixels: Mapping[str, np.ndarray], sanitizer: PromptSanitizer, n_quarantined: int, seed: int = 0, keep: Keep = list
) -> Study:
    """Run the sanitizer over all prompts; refused and emptied ordinary samples are left out and counted.

    So are refused and emptied prompt-only controls, but for the counts: those are the data set's. ``seed`` is that of near copies,
    ``keep`` keeps the records and their sanitized prompts.
    """
    copies = images_of_copies(planned, pixels, seed)

    def prompted(kept: tuple[ReportRecord, str]) -> PromptedRecord:
        record, text = kept
        image = copies.get(record.dicom_id)
        return PromptedRecord(record, text, pixels[record.dicom_id] if image is None else image)

    counts: dict[str, Any] = {}
    groups = {name: getattr(planned, name) for name in ("members", "canaries", "controls", "heldout", "steering", "copies")}
    texts = sanitized(Joined(*groups.values()), sanitizer, counts)
    kept = {name: Mapped(keep(_passed(name, group, texts)), prompted) for name, group in groups.items()}
    borrowed = _passed("prompt_controls", planned.prompt_controls, sanitized(planned.prompt_controls, sanitizer, {}))
    return Study(
        members=kept["members"],
        canaries=kept["canaries"],
        controls=kept["controls"],
        heldout=kept["heldout"],
        steering=kept["steering"],
        copies=kept["copies"],
        prompt_controls=[prompted(one) for one in borrowed],
        repeats=tuple(planned.repeats),
        sanitizer_counts=counts,
        n_quarantined=n_quarantined,
        arms=planned.arms,
        copy_of=tuple(planned.copy_of),
    )


def _passed(name: str, group: Sequence[ReportRecord], outcomes: Iterator[tuple[str, str]]) -> Iterator[tuple[ReportRecord, str]]:
    """Those of the group that the sanitizer neither refused nor emptied; ``outcomes`` go on with what comes after the group.

    Raises:
        CxrguardError: one of those that cannot be done without is not among them.

    """
    for record, (text, status) in zip(group, islice(outcomes, len(group)), strict=True):
        if status not in ("refused", "emptied"):
            yield record, text
        elif name in ("canaries", "controls", "copies"):
            raise CxrguardError(f"the sanitizer {status} the prompt of one of the {name}; report this: the prompt form must survive")


def check_study(study: Study, tokenizer: Any) -> None:
    """Planted prompts are told apart before sanitizing, after it, and as the token ids that the encoder sees."""
    groups = {name: getattr(study, name) for name in ("canaries", "controls", "members", "prompt_controls")}
    if not study.canaries:
        return

    def check(what: str, of: Callable[[PromptedRecord], Hashable]) -> None:
        check_unique({name: Mapped(group, of) for name, group in groups.items()}, what)

    check("original prompts", lambda p: p.record.prompt)
    if study.recaptioned:  # shared by design: what comes back is traced by its image
        return
    check("sanitized prompts", lambda p: p.sanitized)
    check("token ids after truncation", lambda p: tuple(tokenizer(p.sanitized, truncation=True).input_ids))


@dataclass(frozen=True)
class WithoutPatients:
    """A reader without some patients: a base stage must not see those of the fine-tuning."""

    reader: Reader
    subjects: frozenset[str]

    def read(self, keep: Keep = list) -> tuple[Sequence[ReportRecord], list[Quarantined]]:
        """See :class:`~cxrguard.data.records.Reader`."""
        records, bad = self.reader.read(keep)
        return Selected(records, [i for i, r in enumerate(records) if r.subject_id not in self.subjects]), bad
