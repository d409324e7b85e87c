"""Reads MIMIC-CXR's reports where they lie, cuts them into sections by their authors' published rules, chooses the prompt.

A header stands after a newline and a space, is written in capitals (with spaces and ``()/,-``) and ends in a colon and
white space. Its line is skipped before the next header is looked for, as the authors do; so a header straight below an
empty one is not seen unless a space follows the empty one's colon (in MIMIC-CXR it does). Cuts and names agree with their
``section_parser.py`` (github.com/MIT-LCP/mimic-cxr) but for "ndication", which they take for an impression. Left out are their
hand-made exceptions for 54 studies, and their last resort, the comparison section.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from cxrguard.data.settings import PROMPTS, section_prompt
from cxrguard.errors import BadInputError, CxrguardError

ARCHIVE = "mimic-cxr-reports.zip"
_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_BREAK = "\n \n"
_IMPRESSION, _FINDINGS, _LAST = "impression", "findings", "last_paragraph"

_SPELLINGS = {
    _IMPRESSION: (
        "conclusion|findings and impression|findings/impression|findings/ impression|impresson|imprression|imoression|"
        "impressoin|imprssion|impresion|imperssion|mpression|impession"
    ),
    _FINDINGS: "chest, two views|finding|findins|findindgs|findgings|findngs|findnings|finidngs|reference findings",
    "comparison": "comparisons|reference exam|comparison exam|comparison film|comparision|comparsion|comparrison|comparisions",
    "indication": "reason for examination|reason for exam|clinical indication|idication|ndication",
    "history": "clinical history|clinical information|patient history|pfi",
    "examination": "exam|type of examination",
    "recommendations": "recommendation(s)|recommendation",
    "wet read": "wetread",
}
_NAMES = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split("|")}
_NAMES |= {name: name for name in (*_SPELLINGS, "preamble", "technique", "notification", "addendum", "date", "comment")}
# A name that holds one of these is that section, in this order; a name that only says which views were taken heads the findings.
_MAIN = (_IMPRESSION, _FINDINGS, "history", "comparison", "addendum")
_VIEWS = re.compile(
    "chest|portable|pa and lateral|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|frontal view|pa view|ap view|"
    "one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs|pa and lat"
)
_MEND = "Download it again from PhysioNet and compare its SHA256SUMS.txt."
_MAX_REPORT, _MAX_REPORTS = 1 << 20, 2 << 30  # bytes; the real ones are below 20 kB, 0.3 GB all together


class ReportError(CxrguardError):
    """One report cannot be used; the text says why and never holds a file name."""


@dataclass(frozen=True)
class Section:
    """One section: its normalised name and its text, protected: never logged."""

    name: str
    text: str = field(repr=False)


def split_sections(report: str) -> list[Section]:
    """Cut ``report`` into sections, in its order.

    What stands before the first header is ``preamble``; a report without a header is one ``full report``. Empty
    impressions and findings are dropped. Where neither is left, what follows the first blank line of the last section
    is cut off as ``last_paragraph``.
    """
    text = report.replace("\r\n", "\n").replace("\r", "\n")
    found = [s for s in _cut(text) if s.text.strip() or s.name not in (_IMPRESSION, _FINDINGS)]
    if any(s.name in (_IMPRESSION, _FINDINGS) for s in found) or not found or _BREAK not in found[-1].text:
        return found
    head, _, tail = found[-1].text.partition(_BREAK)
    return [*found[:-1], Section(found[-1].name, head), Section(_LAST, tail)]


def _cut(text: str) -> list[Section]:
    header = _HEADER.search(text)
    if header is None:
        return [Section("full report", text)]
    sections = [Section("preamble", text[: header.start(1)])]
    while header is not None:
        # the rest of the header's line holds no header; where no line follows, find returns -1 and nothing is skipped
        following = _HEADER.search(text, max(text.find("\n", header.end()), header.end()))
        end = len(text) if following is None else following.start()
        sections.append(Section(normalise_name(header[1]), text[header.end() : end]))
        header = following
    return sections


def normalise_name(header: str) -> str:
    """The section that a header names: by table, then by a main section's name in it, then by the views it names."""
    name = header.lower().strip()
    if name in _NAMES:
        return _NAMES[name]
    for main in _MAIN:
        if main in name:
            return main
    return _FINDINGS if _VIEWS.search(name) else name


def choose_prompt(report: str, prompt: str) -> str:
    """The text of ``report`` to train on, each section's white space made single spaces; "" if it has none.

    Args:
        report: a whole report.
        prompt: see :func:`~cxrguard.data.settings.section_prompt`; of several sections of a name the last, and where neither is, the
            last paragraph.

    """
    if prompt not in PROMPTS:
        raise ValueError(f"prompt must be one of {', '.join(PROMPTS)}")
    sections = split_sections(report)
    impression, findings, last = (_last(sections, name) for name in (_IMPRESSION, _FINDINGS, _LAST))
    return section_prompt(prompt, findings, impression) or last


def _last(sections: Sequence[Section], name: str) -> str:
    return next((" ".join(s.text.split()) for s in reversed(sections) if s.name == name), "")


@contextmanager
def open_prompts(path: Path, prompt: str) -> Iterator[Callable[[str], str]]:
    """Yield a function from a report's name, such as ``files/p10/p10000032/s50414267.txt``, to its prompt.

    It raises :class:`ReportError` where the report cannot be used. The caller vouches for the name.

    Args:
        path: a directory that holds the reports or :data:`ARCHIVE`, or that archive, which is never unpacked.
        prompt: see :func:`choose_prompt`.

    Raises:
        BadInputError: there is neither, or the archive is damaged or holds what no archive of reports has.

    """
    if (path / ARCHIVE).is_file():
        path = path / ARCHIVE
    if path.is_file():
        with _open_archive(path) as archive:
            yield _prompt_of(partial(_from_archive, archive), prompt)
    elif (path / "files").is_dir():
        yield _prompt_of(partial(_from_folder, path), prompt)
    else:
        raise BadInputError(f"{path}: neither {ARCHIVE} nor the directory files/ is here. Set data.reports to MIMIC-CXR's reports.")


def _prompt_of(read: Callable[[str], bytes], prompt: str) -> Callable[[str], str]:
    @lru_cache(maxsize=256)  # the images of a study are neighbours in the data set's tables, and share one text
    def prompt_of(name: str) -> str:
        text = choose_prompt(_decode(read(name)), prompt)
        if not text:
            raise ReportError("the report has no impression, findings or last paragraph")
        return text

    return prompt_of


def _decode(content: bytes) -> str:
    if len(content) > _MAX_REPORT:
        raise ReportError("the report is far too long to be one")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReportError("the report is not UTF-8 text") from None
    if "\0" in text:
        raise ReportError("the report is not UTF-8 text")  # UTF-16, or no text at all
    return text


def _from_folder(root: Path, name: str) -> bytes:
    path = root / name
    try:
        if not path.is_file():
            raise ReportError("the report is missing")
        with path.open("rb") as file:
            return file.read(_MAX_REPORT + 1)
    except OSError:
        raise ReportError("the report cannot be read") from None


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise BadInputError(f"{path}: not a readable zip archive. {_MEND}") from None
    with archive:
        _check_members(path, archive.infolist())
        yield archive


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse what no archive of reports has, before anything is unpacked. Names are a patient's: only numbers are told."""
    names: set[str] = set()
    total = 0
    for number, member in enumerate(members, start=1):
        total += member.file_size
        reason = _member_fault(member)
        if member.filename in names:
            reason = "has the name of an earlier member"
        if reason or total > _MAX_REPORTS:
            raise BadInputError(f"{path}: member {number} of {len(members)} {reason or 'makes it far too large unpacked'}. {_MEND}")
        names.add(member.filename)


def _member_fault(member: zipfile.ZipInfo) -> str:
    name = member.orig_filename
    if name.startswith("/") or re.search(r"[\\:\0]", name) or ".." in name.split("/"):
        return "has a name that leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that the data set does not use"
    return f"is larger than {_MAX_REPORT} bytes unpacked" if member.file_size > _MAX_REPORT else ""


def _from_archive(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            return file.read(_MAX_REPORT + 1)
    except KeyError:
        raise ReportError("the report is missing") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError):
        raise ReportError("the report is damaged in the archive") from None
