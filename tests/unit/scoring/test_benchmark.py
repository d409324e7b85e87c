from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cxrguard.errors import CxrguardError
from cxrguard.pseudonym import load_key, pseudonym
from cxrguard.scoring.benchmark import Collector, select
from cxrguard.scoring.request import ScoreRequest, parse_top, stem


def test_the_top_share_is_rounded_up_and_best_first() -> None:
    scores = np.array([1.0, 5, 3, 4, 2] * 20 + [9], np.float32)
    chosen = select(scores, Fraction(1, 100), None)
    assert list(chosen.numbers) == [100, 1]  # 1 % of 101 is two; of equal scores the first
    assert chosen.by_top == 2
    assert chosen.percentile[100] == pytest.approx(100 * 100.5 / 101)
    assert chosen.percentile[0] == pytest.approx(100 * 10 / 101)


def test_the_zscore() -> None:
    scores = np.r_[np.zeros(99), 10.0].astype(np.float32)
    chosen = select(scores, None, 3.0)
    assert list(chosen.numbers) == [99]
    assert chosen.z[99] == pytest.approx((10 - 0.1) / np.std(scores))
    assert (chosen.by_top, chosen.by_zscore) == (0, 1)
    both = select(scores, 2, 3.0)
    assert list(both.numbers) == [99, 0]


def test_no_spread_and_no_number() -> None:
    alike = select(np.ones(4, np.float32), 1, 0.5)
    assert np.isnan(alike.z).all()
    assert list(alike.numbers) == [0]
    assert set(alike.percentile) == {50.0}
    broken = select(np.array([np.nan, 1, np.inf, 2], np.float32), 4, None)
    assert list(broken.numbers) == [3, 1]
    assert np.isnan(broken.percentile[[0, 2]]).all()


@pytest.mark.parametrize(("given", "top"), [("1%", Fraction(1, 100)), (" 0.5 %", Fraction(1, 200)), ("100%", 1), ("20", 20), ("", None)])
def test_top(given: str, top: object) -> None:
    assert parse_top(given) == top


@pytest.mark.parametrize("given", ["0", "0%", "101%", "-1%", "1.5", "one", "%", "1/0", "nan"])
def test_top_that_is_none(given: str) -> None:
    with pytest.raises(CxrguardError, match="--top is a share such as 1%"):
        parse_top(given)


def test_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGUARD_KEY_FILE", str(tmp_path / "key"))
    scores = np.array([[1.0, 2], [3, 4]], np.float32)
    collector = Collector(select(scores[:, 0], 1, None), 2, show=False)
    for number, prompt in [(0, "Clear."), (1, "Since ___, clear."), (1, "Since ___, clear.")]:
        collector.see(number, prompt)
    with (tmp_path / "b.jsonl").open("wb") as file:
        collector.write("b.jsonl", file, ["a", "b"], scores)
    told = pseudonym(load_key(), "Since ___, clear.")
    assert (tmp_path / "b.jsonl").read_text() == (
        f'{{"prompt_hash": "{told}", "rows": 2, "marked": true, "a": 3.0, "b": 4.0, "percentile": 75.0, "zscore": 1.0}}\n'
    )
    assert list(collector.marked) == [False, True]


def test_paths(tmp_path: Path) -> None:
    source = tmp_path / "p.csv"
    source.write_text("prompt\na\n")
    request = ScoreRequest("m", str(source), str(tmp_path / "o.csv.gz"), top="1%")
    assert request.benchmark_path == str(tmp_path / "o.benchmark.csv")
    assert request.card_path == str(tmp_path / "o.benchmark.md")
    assert stem("a.b.parquet") == "a.b"
    assert not ScoreRequest("m", str(source), str(tmp_path / "o.csv")).wants_benchmark
    for wrong, message in [
        ({"target": str(source)}, "same file"),
        ({"target": "o.txt"}, "holds prompts and no scores"),
        ({"target": str(tmp_path)}, "the ending says the format"),
        ({"source": "gone.csv"}, "does not exist"),
        ({"zscore": -1.0}, "--zscore must be above 0"),
        ({"benchmark": str(tmp_path / "o.csv")}, "same file"),
        ({"benchmark": str(tmp_path / "b.txt")}, "a benchmark ends in"),
        ({"target": "-", "top": "1%"}, "say with --benchmark"),
    ]:
        with pytest.raises(CxrguardError, match=message):
            ScoreRequest(**{"model": "m", "source": str(source), "target": str(tmp_path / "o.csv"), **wrong})  # type: ignore[arg-type]
