"""What is to be scored, and where the scores go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from cxrguard.errors import CxrguardError
from cxrguard.scoring.detectors import DEFAULT, Detectors, Draws, check_names
from cxrguard.tables.formats import kind
from cxrguard.tables.lines import STANDARD
from cxrguard.tables.paths import check_files

_TABLES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class ScoreRequest:
    """One run of ``cxrguard score``; see there.

    Args:
        model: a diffusers pipeline directory.
        source: the table of prompts, or ``-``.
        target: where it goes with a column a detector, or ``-``.
        column: the prompts' column.
        names: the detectors; the first is the one that the benchmark selects by.
        draws: steps and seeds.
        base: the pipeline that fine-tuning started from, or "".
        batch_size: prompts at once.
        devices: processes, each with a device of its own.
        seed: of the noise.
        top: ``"1%"`` or a number of prompts, or "".
        zscore: the least z-score, or None.
        benchmark: where the benchmark goes; "" is beside ``target``.
        show_prompts: whether the benchmark holds the prompts.
        overwrite: replace columns of the detectors' names.
        resume: go on where an interrupted run stopped.
        progress: show a bar, if standard error is a terminal.

    Raises:
        CxrguardError: For what cannot work together, or a file that is missing.

    """

    model: str
    source: str
    target: str
    column: str = "prompt"
    names: tuple[str, ...] = (DEFAULT,)
    draws: Draws = field(default_factory=Draws)
    base: str = ""
    batch_size: int = 32
    devices: int = 1
    seed: int = 0
    top: str = ""
    zscore: float | None = None
    benchmark: str = ""
    show_prompts: bool = False
    overwrite: bool = False
    resume: bool = True
    progress: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", check_names(self.names, has_base=bool(self.base)))
        _ = self.detectors  # raises for draws that one of them cannot work with
        check_paths(self.source, self.target)
        if self.zscore is not None and not 0 < self.zscore < float("inf"):
            raise CxrguardError(f"--zscore must be above 0, not {self.zscore:g}.")
        if self.wants_benchmark:
            self._check_benchmark()

    def _check_benchmark(self) -> None:
        parse_top(self.top_or_default)
        if self.target == STANDARD and not self.benchmark:
            raise CxrguardError("OUT is standard output: say with --benchmark FILE where the benchmark goes.")
        if kind(self.benchmark_path) not in _TABLES or self.benchmark_path == STANDARD:
            raise CxrguardError(f"{self.benchmark_path}: a benchmark ends in {', '.join(_TABLES)}.")
        check_paths(self.source, self.target, {"--benchmark": self.benchmark_path, "the benchmark's card": self.card_path})

    @property
    def detectors(self) -> Detectors:
        """The detectors."""
        return Detectors(self.names, self.draws)

    @property
    def wants_benchmark(self) -> bool:
        """Whether a benchmark is written."""
        return bool(self.top or self.zscore is not None or self.benchmark)

    @property
    def top_or_default(self) -> str:
        """``top``; 1 % where neither it nor a z-score is given."""
        return self.top or ("1%" if self.zscore is None else "")

    @property
    def benchmark_path(self) -> str:
        """Where the benchmark goes."""
        return self.benchmark or f"{stem(self.target)}.benchmark.csv"

    @property
    def card_path(self) -> str:
        """Where its card goes."""
        return f"{stem(self.benchmark_path)}.md"


def check_paths(source: str, target: str, more: Mapping[str, str] | None = None) -> None:
    """Raises CxrguardError for files that cannot be what they are to be; ``more`` are other outputs, by their names in messages."""
    kind(source)
    if kind(target) not in _TABLES:
        raise CxrguardError(f"{target}: a .txt holds prompts and no scores. Write {', '.join(_TABLES)}.")
    check_files({"--prompts": source, "--out": target, **(more or {})})


def check_table(option: str, path: str) -> None:
    """Raises CxrguardError unless ``path`` can be a second table of an output: a file with columns."""
    if path == STANDARD or kind(path) not in _TABLES:
        raise CxrguardError(f"{option}: {path} is none of {', '.join(_TABLES)}.")


def stem(path: str) -> str:
    """``path`` without its ending, ``.gz`` included."""
    ending = kind(path)
    bare = path[:-3] if path.lower().endswith(".gz") else path
    return bare[: -len(ending)] if path != STANDARD else ""


def parse_top(top: str) -> Fraction | int | None:
    """A share (``"1%"``), a number of prompts (``"50"``), or None for "".

    Raises:
        CxrguardError: If it is neither, or out of range.

    """
    number = top.strip()
    try:
        value = Fraction(number.removesuffix("%").strip()) if number else None
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value is None:
        return None
    if number.endswith("%") and 0 < value <= 100:
        return value / 100
    if not number.endswith("%") and value >= 1 and value.denominator == 1:
        return int(value)
    raise CxrguardError(f"--top is a share such as 1% (up to 100%) or a whole number of prompts, not {top!r}.")
