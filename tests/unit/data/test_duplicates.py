"""Duplicates of images and prompts on made-up ones; figures on real ones are in test_duplicates_real.py."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from data_miniatures.samples import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.data import near_images
from cxrguard.data.duplicates import Duplicates, find_duplicates
from cxrguard.data.grouping import Labels, count_groups, group_equal
from cxrguard.data.near_prompts import JACCARD, _word_pairs, find_near_prompts, fold, jaccard


def find(pixels, prompts=None, subjects=None, splits=None) -> Duplicates:
    n = len(pixels)
    names = [f"{i} {i} {i}" for i in range(n)]
    return find_duplicates(pixels, prompts or names, subjects or names, splits or ["train"] * n)


def of_prompts(prompts: list[str], subjects=None, splits=None) -> Duplicates:
    return find([noise(i) for i in range(len(prompts))], prompts, subjects, splits)


def test_exact_images_are_the_same_pixels_and_shape() -> None:
    pixels = [noise(0), noise(1), noise(0).copy(), noise(2), noise(1), noise(0), np.zeros((2, 8), np.uint8), np.zeros((4, 4), np.uint8)]
    found = find(pixels, subjects=list("aabbaaab"), splits=["t", "t", "t", "t", "h", "t", "t", "t"])
    assert found.exact_images.rows == [[0, 2, 5], [1, 4]]
    assert (found.exact_images.samples, found.exact_images.across_patients, found.exact_images.across_splits) == (5, 2, 1)
    assert found.near_images.rows == []


@pytest.mark.parametrize("change", ["darker", "gamma", "crop", "noise"])
def test_near_images_survive_small_changes(change: str) -> None:
    pixels = [noise(i) for i in range(40)]
    rng = np.random.default_rng(0)
    changed = {
        "darker": lambda x: np.rint(x * 0.6 + 10),
        "gamma": lambda x: np.rint(255 * (x / 255) ** 1.4),
        "crop": lambda x: near_images._shrink(x, 64, (0.03, 0.0, 0.01, 0.02)).round(),
        "noise": lambda x: np.clip(x + rng.normal(size=x.shape) * 4, 0, 255).round(),
    }[change]
    copies = [changed(x.astype(float)).astype(np.uint8) for x in pixels[:10]]
    found = find(pixels + copies, splits=["train"] * 40 + ["heldout"] * 10)
    assert found.near_images.rows == [[i, 40 + i] for i in range(10)]
    assert found.near_images.across_splits == 10 and found.exact_images.rows == []


def test_a_near_group_holds_the_exact_copies_of_its_members() -> None:
    dark = (noise(0) // 2).astype(np.uint8)
    found = find([noise(0), dark, noise(1), noise(0), dark])
    assert found.exact_images.rows == [[0, 3], [1, 4]] and found.near_images.rows == [[0, 1, 3, 4]]


def test_images_of_one_value_are_like_no_other() -> None:
    found = find([np.full((16, 16), value, np.uint8) for value in (0, 9, 255, 9)])
    assert found.exact_images.rows == [[1, 3]] and found.near_images.rows == []


def test_memory_mapped_pixels_of_any_size(tmp_path: Path) -> None:
    stored = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (6, 128, 128))
    stored[:] = [noise(i % 5, 128) for i in range(6)]
    found = find(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert found.exact_images.rows == [[0, 5]]
    assert find([noise(0, 32), noise(0, 64)[:, :40], noise(0)[:1, :1]]).exact_images.rows == []


def test_pairs_beyond_the_budget_are_counted_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_images, "ALIKE", -2.0)
    monkeypatch.setattr(near_images, "MAX_ALIGNED", 1)
    found = find([noise(i) for i in range(6)])
    assert found.unchecked_image_pairs == 15 - 6 and found.near_images.rows == []


def test_blocks_find_what_one_block_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = [noise(i % 13) // (1 + i % 2) for i in range(30)]
    whole = find(pixels)
    monkeypatch.setattr(near_images, "_BLOCK", 7)
    assert find(pixels) == whole and len(whole.near_images.rows) == 13


def test_nothing_and_one() -> None:
    assert set(find_duplicates([], [], [], []).summary().values()) == {0}
    assert set(find([noise(0)]).summary().values()) == {0}
    with pytest.raises(ValueError, match="one of each"):
        find_duplicates([noise(0)], ["a"], ["b"], [])


def test_exact_prompts_fold_case_and_space() -> None:
    prompts = ["No  Edema.", "no edema.", "No edema", "NO\n EDEMA.", "Clear lungs."]
    found = of_prompts(prompts, subjects=list("aabba"), splits=["t", "h", "t", "t", "t"])
    assert found.exact_prompts.rows == [[0, 1, 3]]
    assert (found.exact_prompts.across_patients, found.exact_prompts.across_splits) == (2, 2)
    assert found.near_prompts.rows == [[0, 1, 2, 3]]  # the third differs by its full stop


WORDS = [f"word{i}" for i in range(40)]


def test_near_prompts_share_most_of_their_wording() -> None:
    text = " ".join(WORDS)
    near = text.replace("word7 ", "other ")
    assert of_prompts([text, near, " ".join(WORDS[::-1]), text + " ___ again"]).near_prompts.rows == [[0, 1, 3]]
    assert of_prompts(["No edema.", "No pneumonia.", "", "...", "..."]).near_prompts.rows == []


def sets(prompts: list[str]) -> list[frozenset[int]]:
    pairs, starts, rows = _word_pairs(prompts)
    found = [frozenset[int]()] * len(prompts)
    for place, row in enumerate(rows.tolist()):
        found[row] = frozenset(pairs[starts[place] : starts[place + 1]].tolist())
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join) | st.text(max_size=10), max_size=12))
def test_near_prompts_are_those_of_brute_force(prompts: list[str]) -> None:
    """Few prompts: every pair in a bucket is compared, so that only the bands can miss one (4 in 10,000)."""
    labels = Labels(len(prompts))
    words = sets(prompts)
    for a, b in itertools.combinations(range(len(prompts)), 2):
        if words[a] and jaccard(words[a], words[b]) >= JACCARD:
            labels.join(np.array([a]), np.array([b]))
    assert find_near_prompts(prompts).tolist() == labels.labels.tolist()


@given(st.text(), st.text())
def test_jaccard_is_symmetric_and_one_for_the_same(a: str, b: str) -> None:
    one, other = sets([a, b])
    assert jaccard(one, other) == jaccard(other, one) and 0 <= jaccard(one, other) <= 1
    assert jaccard(one, one) == (1 if one else 0)
    assert fold(f"  {a}\n") == fold(a) and fold(fold(a)) == fold(a)


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=15))))
def test_labels_are_the_connected_components(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, pairs = case
    at_once, one_by_one, parts = Labels(n), Labels(n), [{i} for i in range(n)]
    if pairs:
        at_once.join(*np.array(pairs).T)
    for a, b in pairs:
        one_by_one.join(np.array([a]), np.array([b]))
        joined = next(part for part in parts if a in part) | next(part for part in parts if b in part)
        parts = [part for part in parts if not part & joined] + [joined]
    assert at_once.labels.tolist() == one_by_one.labels.tolist() == [min(next(p for p in parts if i in p)) for i in range(n)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 3)), max_size=20))
def test_counts_are_those_of_all_pairs(rows: list[tuple[str, str, int]]) -> None:
    subjects, splits, keys = ([row[k] for row in rows] for k in range(3))
    found = count_groups(group_equal(keys), subjects, splits)
    pairs = [(a, b) for a, b in itertools.combinations(range(len(rows)), 2) if keys[a] == keys[b]]
    assert found.across_patients == sum(subjects[a] != subjects[b] for a, b in pairs)
    assert found.across_splits == sum(splits[a] != splits[b] for a, b in pairs)
    assert found.samples == len({row for pair in pairs for row in pair})


def test_the_summary_and_the_repr_hold_counts_only() -> None:
    found = of_prompts(["Secret one.", "secret  one."], subjects=["secret1", "secret2"], splits=["train", "heldout"])
    summary = found.summary()
    assert all(type(value) is int for value in summary.values()) and "ecret" not in repr(found)
    assert summary["exact_prompts_groups"] == 1 and summary["exact_prompts_pairs_across_splits"] == 1
    assert len(summary) == 17


def test_a_template_of_20_000_prompts_takes_seconds() -> None:
    """All alike, in one bucket a band: the work does not grow with the square."""
    prompts = [f"Chest radiograph of a ___ year old man, number {i}, with the heart of normal size and clear lungs." for i in range(20_000)]
    start = time.perf_counter()
    labels = find_near_prompts(prompts)
    assert time.perf_counter() - start < 60 and len(set(labels.tolist())) == 1
