"""Pictures on disk: private, nameless, and of the sample that lies nearest."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cxrguard.audit.evaluate import Generated
from cxrguard.audit.evidence import every_sample, png_bytes, save_grid, to_uint8, without_replays, write_strips
from cxrguard.audit.extraction import Replays
from cxrguard.pseudonym import pseudonym

KEY = b"k" * 32


def read(path: Path) -> np.ndarray:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return np.asarray(Image.open(path))


def test_uint8_and_png() -> None:
    image = torch.tensor([[[-1.0, 1.0, 0.0], [-7.0, 7.0, -0.6]]])
    gray = to_uint8(image)
    assert gray.dtype == np.uint8 and gray.tolist() == [[0, 255, 128], [0, 255, 51]]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(gray)))), gray)
    every = torch.arange(256).reshape(1, 16, 16) / 127.5 - 1
    assert to_uint8(every).flatten().tolist() == list(range(256))


@pytest.mark.parametrize(("n", "columns", "shape"), [(1, 8, (2, 16)), (3, 2, (4, 4)), (4, 2, (4, 4))])
def test_a_grid_goes_row_by_row(tmp_path: Path, n: int, columns: int, shape: tuple[int, int]) -> None:
    images = torch.stack([torch.full((1, 2, 2), i / 10) for i in range(n)])
    grid = save_grid(images, tmp_path / "samples" / "grid.png", columns)
    assert grid.shape == shape and np.array_equal(read(tmp_path / "samples" / "grid.png"), grid)
    for i in range(n):
        row, column = 2 * (i // columns), 2 * (i % columns)
        assert (grid[row : row + 2, column : column + 2] == to_uint8(images[i])).all()
    assert n % columns == 0 or not grid[-2:, 2 * (n % columns) :].any()


def setting() -> tuple[Any, dict[str, Generated]]:
    generator = torch.Generator().manual_seed(0)
    groups, generated = {}, {}
    for name, n in {"canaries": 20, "controls": 6, "members": 3}.items():
        distance = torch.rand(n, 4, generator=generator)
        index = torch.randint(5, (n, 4), generator=generator)
        groups[name] = SimpleNamespace(
            pixels=torch.rand(n, 1, 2, 2, generator=generator),
            prompts=[f"secret {name} {i}" for i in range(n)],
            repeats=list(range(n)),
            subjects=[f"patient {name} {i}" for i in range(n)],
        )
        replays = Replays(torch.zeros(n, 4, dtype=torch.bool), distance < 0.1, distance, index)
        generated[name] = Generated(torch.rand(n, 4, 1, 2, 2, generator=generator), {"pixels": replays, "latents": replays}, 1)
    references = SimpleNamespace(training_pixels=torch.rand(5, 1, 2, 2, generator=generator))
    return SimpleNamespace(
        judged=SimpleNamespace(groups=groups, references=references), thresholds={"pixels": 0.1, "latents": 9.0}
    ), generated


def test_strips_show_the_nearest_sample_and_name_no_one(tmp_path: Path) -> None:
    evaluator, generated = setting()
    strips = write_strips(evaluator, generated, tmp_path, KEY, most=16)
    assert [s["group"] for s in strips] == ["canary"] * 16 + ["control"] * 4 + ["member"] * 3
    assert stat.S_IMODE((tmp_path / "evidence").stat().st_mode) == 0o700
    hashes = {name: [pseudonym(KEY, p) for p in g.prompts] for name, g in evaluator.judged.groups.items()}
    for strip in strips:
        name = {"canary": "canaries", "control": "controls", "member": "members"}[strip["group"]]
        row = hashes[name].index(strip["hash"])
        replays = generated[name].replays["pixels"]
        column = min(range(4), key=lambda c: float(replays.distance[row, c]))
        assert strip["distance"] == float(replays.distance[row, column]) and strip["threshold"] == 0.1
        assert strip["replayed"] == (strip["distance"] < 0.1) and strip["repeats"] == evaluator.judged.groups[name].repeats[row]
        want = {
            "original": evaluator.judged.groups[name].pixels[row],
            "generated": generated[name].pixels[row, column],
            "nearest": evaluator.judged.references.training_pixels[int(replays.index[row, column])],
        }
        assert strip["images"].keys() == want.keys()
        for kind, image in want.items():
            assert np.array_equal(read(tmp_path / strip["images"][kind]), to_uint8(image))
    assert not any(word in str(strips) for word in ("secret", "patient", str(tmp_path)))
    assert not any(word in str(p) for p in tmp_path.rglob("*") for word in ("secret", "patient "))


def test_controls_and_members_come_by_how_clearly_they_replay(tmp_path: Path) -> None:
    evaluator, generated = setting()
    strips = write_strips(evaluator, generated, tmp_path, KEY, most=8)
    for group, name in (("control", "controls"), ("member", "members")):
        shown = [s["distance"] for s in strips if s["group"] == group]
        assert shown == sorted(generated[name].replays["pixels"].distance.min(dim=1).values.tolist())[:2]
    assert len([s for s in strips if s["group"] == "canary"]) == 8


def test_what_leaves_the_machine_is_black_where_a_first_draw_replays_in_either_space() -> None:
    def replays(first: list[bool]) -> Replays:
        hit = torch.tensor([[f, True] for f in first])  # the second draw is not shown, so it does not count
        return Replays(hit, hit, torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64))

    pixels = torch.full((3, 2, 1, 2, 2), 0.5)
    spaces = {"pixels": replays([True, False, False]), "latents": replays([False, True, False])}
    shown = without_replays(Generated(pixels, spaces, 1))
    assert shown[:, 0, 0, 0].tolist() == [-1.0, -1.0, 0.5]
    assert (pixels == 0.5).all()


def test_of_the_users_own_prompts_every_sample_that_replays_is_black_unless_asked_for() -> None:
    def replays(hit: list[list[bool]]) -> Replays:
        return Replays(torch.zeros(2, 2, dtype=torch.bool), torch.tensor(hit), torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64))

    pixels = torch.arange(4.0).reshape(2, 2, 1, 1, 1)
    spaces = {"pixels": replays([[True, False], [False, False]]), "latents": replays([[False, False], [True, False]])}
    generated = Generated(pixels, spaces, 1)
    assert every_sample(generated, replays=False).flatten().tolist() == [-1.0, 1.0, -1.0, 3.0]
    assert every_sample(generated, replays=True).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
