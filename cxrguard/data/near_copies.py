"""Repeats of a canary that are near-duplicates, as real data sets have them: cropped, in other greys, in other words.

An exact repeat is found by any duplicate search and by any loss that is kept a sample; a near one is a sample of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from cxrguard.data.canaries import CanaryPlan
from cxrguard.data.prompt_form import LEADS, MARKER
from cxrguard.data.records import ReportRecord
from cxrguard.randomness import numpy_generator

OPENINGS = ("Note", "Again note", "There is", "Seen is", "Once more there is", "Visible is")
"""Ways to begin the sentence that holds a prompt's own words; the first is the original's."""

MOST_CROPPED = 0.03
"""Of either side; 2 pixels of 64."""


def with_near_copies(plan: CanaryPlan, seed: int) -> CanaryPlan:
    """Each canary once, and ``repeats`` − 1 near copies of it; the copies' images are made by :func:`near_copy_of_image`."""
    copies, of = [], []
    for index, (record, times) in enumerate(zip(plan.canaries, plan.repeats, strict=True)):
        for draw in range(1, times):
            prompt = reword(record.prompt, numpy_generator("near-copy-prompt", seed, record.dicom_id, draw))
            copies.append(replace(record, prompt=prompt, dicom_id=f"{record.dicom_id}#{draw}"))
            of.append(index)
    return replace(plan, copies=copies, copy_of=of)


def images_of_copies(plan: CanaryPlan, pixels: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """The copies' images, by their ``dicom_id``."""
    originals: Sequence[ReportRecord] = [plan.canaries[i] for i in plan.copy_of]
    return {
        copy.dicom_id: near_copy_of_image(pixels[original.dicom_id], numpy_generator("near-copy-image", seed, copy.dicom_id))
        for copy, original in zip(plan.copies, originals, strict=True)
    }


def reword(prompt: str, generator: np.random.Generator) -> str:
    """The same in other words: another lead, another opening of the sentence with the prompt's own words."""
    lead = next((lead for lead in LEADS if prompt.startswith(lead)), None)
    if lead is not None:
        prompt = str(generator.choice([other for other in LEADS if MARKER in other])) + prompt[len(lead) :]
    return prompt.replace(f". {OPENINGS[0]} ", f". {generator.choice(OPENINGS)} ", 1)


def near_copy_of_image(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Crop by up to 3 % of either side, gamma 0.9 to 1.1, contrast by up to 5 %, brightness by 3 %: uint8 ``[H, W]`` of the same size."""
    height, width = pixels.shape
    kept = 1 - generator.uniform(0, MOST_CROPPED)
    top, left = generator.uniform(0, 1 - kept, size=2)
    box = (left * width, top * height, (left + kept) * width, (top + kept) * height)
    cropped = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, box=box)
    grey = (np.asarray(cropped, np.float64) / 255) ** generator.uniform(0.9, 1.1)
    changed = (grey - 0.5) * generator.uniform(0.95, 1.05) + 0.5 + generator.uniform(-0.03, 0.03)
    return np.asarray((changed * 255).round().clip(0, 255), np.uint8)
