"""How MIMIC-CXR-JPG names its images, and how tables of LLaVA-Rad's annotations refer to them."""

from __future__ import annotations

import re
from dataclasses import dataclass

DICOM, SUBJECT, STUDY = "[0-9a-f]{8}(?:-[0-9a-f]{8}){4}", "1[0-9]{7}", "5[0-9]{7}"
ANNOTATION_IMAGES, ANNOTATED_PROMPT = ("path", "image", "image_path"), "annotated_prompt"
_PATH = re.compile(f"(?:.*/)?p([0-9]{{2}})/p({SUBJECT})/s({STUDY})/({DICOM})[.](?:jpg|jpeg|png|dcm)")


@dataclass(frozen=True)
class MimicImage:
    """The ids of one image, checked by pattern, so that they are safe in a path."""

    dicom: str
    subject: str
    study: str

    @property
    def report(self) -> str:
        """The report's path, from the data set's root."""
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.study}.txt"

    @property
    def path(self) -> str:
        """The image's path, from the data set's root."""
        return f"{self.report.removesuffix('.txt')}/{self.dicom}.jpg"


def parse_path(path: str) -> MimicImage | None:
    """The ids in a path that ends like ``p10/p10000032/s50414267/<dicom_id>.jpg``, or None."""
    match = _PATH.fullmatch(path)
    if match is None or not match[2].startswith(match[1]):
        return None
    return MimicImage(dicom=match[4], subject=match[2], study=match[3])


def annotated_prompt(text: str) -> str:
    """The prompt of a cell, its white space folded."""
    return " ".join(text.split())
