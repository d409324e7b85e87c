"""``scores.csv``: every judged prompt's scores and what came back under it, under pseudonyms; mode 0600.

It holds no text and no id, but it says which prompts replay a patient: it stays where the run is.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrguard.audit.groups import Group
from cxrguard.audit.judge_detectors import Outcomes
from cxrguard.errors import CxrguardError
from cxrguard.files import write_private
from cxrguard.pseudonym import pseudonym

NAME = "scores.csv"
COLUMNS = ("hash", "patient", "group", "repeats", "replays_own", "replays_any")
ARM = "arm"  # comes next; a table from before the marker study has none
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreTable:
    """The rows of a ``scores.csv``.

    Attributes:
        patients: pseudonyms, ``N``.
        groups: ``canaries``, ``controls``, ``members`` or ``prompt_controls``, ``N``.
        repeats: showings an epoch, ``[N]``.
        own: whether a prompt's own image came back, ``[N]``.
        any: whether any training image did, ``[N]``.
        scores: by detector, ``[N]``; NaN where it was not finite.
        asked: by detector, whether it scored the prompt, ``[N]``; a detector that looks at images skips prompts without one.
        arms: in a study of the marker itself the arm of each canary and control, ``N``; "" for other prompts and in other studies.

    """

    patients: tuple[str, ...] = field(repr=False)
    groups: tuple[str, ...]
    repeats: NDArray[np.int64]
    own: NDArray[np.bool_]
    any: NDArray[np.bool_]
    scores: dict[str, Scores]
    asked: dict[str, NDArray[np.bool_]]
    arms: tuple[str, ...] = ()


def write_scores(
    run_dir: Path,
    groups: dict[str, Group],
    outcomes: Outcomes,
    scores: dict[str, dict[str, Scores]],
    key: bytes,
    arms: dict[str, tuple[str, ...]] | None = None,
) -> Path:
    """Write ``scores.csv``.

    Args:
        run_dir: where to.
        groups: the judged groups by name.
        outcomes: what came back under each prompt, in all its samples; its groups are written.
        scores: by detector and group.
        key: of the pseudonyms; ``hash`` is the same as in the report's strips, ``patient`` the same in all runs with this key.
        arms: by group, the arm of each prompt; no arms for a group that is not there or empty.

    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, ARM, *scores])
    for name in outcomes.own:
        group, of_group = groups[name], (arms or {}).get(name) or ("",) * len(groups[name])
        for row in range(len(group)):
            known = (pseudonym(key, group.prompts[row]), pseudonym(key, f"patient {group.subjects[row]}"), name, group.repeats[row])
            hits = (int(outcomes.own[name][row]), int(outcomes.any[name][row]))
            values = [repr(float(by_group[name][row])) if name in by_group else "" for by_group in scores.values()]
            writer.writerow([*known, *hits, of_group[row], *values])
    return write_private(run_dir / NAME, buffer.getvalue())


def read_scores(run_dir: Path) -> ScoreTable:
    """Read a run's ``scores.csv``.

    Raises:
        CxrguardError: if it is missing or is not such a table; nothing of it is quoted.

    """
    path = run_dir / NAME
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        if tuple(header[: len(COLUMNS)]) != COLUMNS or any(len(row) != len(header) for row in rows):
            raise ValueError("columns")
        return _parse(header[len(COLUMNS) :], rows)
    except (OSError, ValueError, csv.Error) as error:
        raise CxrguardError(f"{NAME} in {run_dir.name} cannot be read, or is not a table of scores ({type(error).__name__}).") from None


def _parse(detectors: list[str], rows: list[list[str]]) -> ScoreTable:
    has_arms = detectors[:1] == [ARM]
    first, detectors = len(COLUMNS) + has_arms, detectors[has_arms:]
    cells = {name: [row[first + i] for row in rows] for i, name in enumerate(detectors)}
    return ScoreTable(
        tuple(row[1] for row in rows),
        tuple(row[2] for row in rows),
        np.array([int(row[3]) for row in rows], dtype=np.int64),
        np.array([int(row[4]) for row in rows], dtype=bool),
        np.array([int(row[5]) for row in rows], dtype=bool),
        {name: np.array([float(cell or "nan") for cell in column]) for name, column in cells.items()},
        {name: np.array([cell != "" for cell in column], dtype=bool) for name, column in cells.items()},
        tuple(row[len(COLUMNS)] if has_arms else "" for row in rows),
    )
