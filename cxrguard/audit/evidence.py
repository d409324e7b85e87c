"""Evidence on disk: grids of generated images; for the local report the strips original | generated | nearest, and prompts if asked for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cxrguard.audit.evaluate import Evaluator, Generated
from cxrguard.audit.record import PROMPTS
from cxrguard.data.prepare import Study
from cxrguard.files import write_json_private, write_private
from cxrguard.pseudonym import pseudonym
from cxrguard.randomness import numpy_generator

SANITIZER_EXAMPLES = 12
_LABEL = {"canaries": "canary", "controls": "control", "members": "member"}


def to_uint8(image: Tensor) -> np.ndarray:
    """A ``[1, H, W]`` image in [-1, 1] as uint8 ``[H, W]``."""
    gray: np.ndarray = ((image[0].clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return gray


def png_bytes(image: np.ndarray) -> bytes:
    """uint8 ``[H, W]`` as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def to_grid(images: Tensor, columns: int = 8) -> np.ndarray:
    """``[N, 1, H, W]`` images in [-1, 1] as one uint8 picture, row by row."""
    tiles = [to_uint8(image) for image in images]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    return np.concatenate([np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)])


def save_grid(images: Tensor, path: Path, columns: int = 8) -> np.ndarray:
    """Save :func:`to_grid` as a PNG; returns the grid."""
    grid = to_grid(images, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, png_bytes(grid))
    return grid


def without_replays(generated: Generated) -> Tensor:
    """Each prompt's first sample, ``[N, 1, H, W]``, black where a first draw replays a training image in either space.

    Such a sample is a patient's X-ray, whoever generated it: it must not leave the machine.
    """
    replayed = generated.hits("pixels", "any", 1) | generated.hits("latents", "any", 1)
    return generated.pixels[:, 0].masked_fill(replayed[:, None, None, None], -1.0)


def every_sample(generated: Generated, replays: bool) -> Tensor:
    """All samples, ``[N·K, 1, H, W]``, a prompt's side by side; unless ``replays``, black where one replays a training image."""
    replayed = generated.replays["pixels"].any | generated.replays["latents"].any
    shown = generated.pixels if replays else generated.pixels.masked_fill(replayed[:, :, None, None, None], -1.0)
    return shown.flatten(0, 1)


def write_strips(evaluator: Evaluator, generated: dict[str, Generated], run_dir: Path, key: bytes, most: int = 16) -> list[dict[str, Any]]:
    """Write the strips of canaries, and of the controls and members that replay most clearly, and describe them.

    The sample shown is the prompt's nearest to any training image, so a replay cannot be overlooked.
    """
    strips = []
    for name, result in generated.items():
        replays = result.replays["pixels"]
        best = replays.distance.min(dim=1)
        rows = range(len(best.values)) if name == "canaries" else best.values.argsort().tolist()
        for row in list(rows)[: most if name == "canaries" else most // 4]:
            column = int(best.indices[row])
            images = {
                "original": evaluator.judged.groups[name].pixels[row].cpu(),
                "generated": result.pixels[row, column],
                "nearest": evaluator.judged.references.training_pixels[int(replays.index[row, column])],
            }
            strips.append(
                {
                    "hash": pseudonym(key, evaluator.judged.groups[name].prompts[row]),
                    "group": _LABEL[name],
                    "repeats": evaluator.judged.groups[name].repeats[row],
                    "distance": float(replays.distance[row, column]),
                    "threshold": evaluator.thresholds["pixels"],
                    "replayed": bool(replays.any[row, column]),
                    "images": _write_images(images, run_dir, f"{name}_{row:03d}"),
                }
            )
    return strips


def _write_images(images: dict[str, Tensor], run_dir: Path, stem: str) -> dict[str, str]:
    paths = {kind: f"evidence/{stem}_{kind}.png" for kind in images}
    (run_dir / "evidence").mkdir(mode=0o700, exist_ok=True)
    for kind, image in images.items():
        write_private(run_dir / paths[kind], png_bytes(to_uint8(image)))
    return paths


def write_prompts(run_dir: Path, strips: list[dict[str, Any]], study: Study, key: bytes, seed: int) -> Path:
    """Write :data:`PROMPTS`: both wordings of the strips' prompts by pseudonym, and some of the sanitizer's edits of ordinary prompts."""
    groups = (study.canaries, study.controls, study.members)
    wordings = {pseudonym(key, p.record.prompt): [p.record.prompt, p.sanitized] for group in groups for p in group}
    edited = [[p.record.prompt, p.sanitized] for p in study.members if p.sanitized != p.record.prompt]
    chosen = sorted(numpy_generator("sanitizer-examples", seed).permutation(len(edited))[:SANITIZER_EXAMPLES].tolist())
    shown = {strip["hash"]: wordings[strip["hash"]] for strip in strips if strip["hash"] in wordings}
    (run_dir / PROMPTS).parent.mkdir(mode=0o700, exist_ok=True)
    return write_json_private(run_dir / PROMPTS, {"strips": shown, "sanitizer": [edited[i] for i in chosen]})
