"""Print random edits of the sanitizer, before and after, to be judged by reading; on a terminal, from a table of one's own.

python benchmarks/sample_edits.py openi_reports.jsonl --column findings --n 50 --seed 0
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from cxrguard.sanitizer.pipeline import TextSanitizer
from cxrguard.sanitizer.settings import SanitizerSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="JSON lines")
    parser.add_argument("--column", default="findings")
    parser.add_argument("--convention", default="auto")
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    core = TextSanitizer(SanitizerSettings((options.convention,)))
    texts = dict.fromkeys(json.loads(line).get(options.column) or "" for line in options.table.read_text(encoding="utf-8").splitlines())
    results = [(text, result) for text in texts if (result := core.sanitize(text)).status != "unchanged"]
    for text, result in random.Random(options.seed).sample(results, min(options.n, len(results))):
        print(f"- {text}\n+ {result.text}  [{result.status}: {', '.join(edit.rule for edit in result.edits)}]\n")


if __name__ == "__main__":
    main()
