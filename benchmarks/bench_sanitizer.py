"""Sanitizer against a bare spaCy pipeline, texts a second, in one run: python benchmarks/bench_sanitizer.py [reports.jsonl]."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import spacy

from cxrguard.data.phantom import PhantomReader
from cxrguard.sanitizer.sanitizer import PromptSanitizer


def texts() -> list[str]:
    if len(sys.argv) > 1:
        rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
        return [row[section] for row in rows for section in ("findings", "impression") if row[section]]
    return [record.prompt for record in PhantomReader(n_patients=2000).read()[0]]


def rate(work: Callable[[], object], n: int) -> float:
    best = min(_seconds(work) for _ in range(3))
    return n / best


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    prompts = texts()
    bare = spacy.blank("en")
    bare.add_pipe("sentencizer")
    sanitizer = PromptSanitizer(["mimic_cxr", "open_i"], "repair")
    baseline = rate(lambda: list(bare.pipe(prompts)), len(prompts))
    ours = rate(lambda: sanitizer.sanitize(prompts), len(prompts))
    print(f"{len(prompts)} texts: bare spaCy + sentencizer {baseline:,.0f}/s, sanitizer {ours:,.0f}/s, ratio {ours / baseline:.2f}")


if __name__ == "__main__":
    main()
