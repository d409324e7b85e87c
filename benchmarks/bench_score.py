"""20,000 prompts through ``cxrguard score`` with the shipped tiny model: memory and time a prompt, quarter by quarter.

python benchmarks/bench_score.py [--prompts 20000] [--seeds 1] [--steps 1] [--batch-size 64]

The time is the processor's, so that what else the machine does makes little difference. Memory that grows, or time that is more than
linear, shows as a last quarter above the first.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is imported

import argparse
import random
import tempfile
import time
from pathlib import Path

from cxrguard.scoring import score_file, worker
from cxrguard.scoring.detectors import Draws
from cxrguard.scoring.request import ScoreRequest

_WORDS = ("no", "acute", "small", "left", "pleural", "effusion", "edema", "heart", "size", "normal", "clear", "stable", "since", "___")


def memory() -> float:
    """Resident memory of this process now, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_prompts(path: Path, n: int) -> None:
    draw = random.Random(0)
    with path.open("w") as file:
        file.write("id,prompt\n")
        for i in range(n):
            file.write(f"{i},{' '.join(draw.choices(_WORDS, k=draw.randint(5, 60)))} {i}\n")


class Quarters:
    """Takes time and memory at the start and at the end of every quarter of the prompts."""

    def __init__(self, n: int) -> None:
        self._edges = [n * quarter // 4 for quarter in range(1, 5)]
        self.marks: list[tuple[int, float, float]] = []

    def __call__(self, done: int) -> None:
        if not self.marks or done >= self._edges[min(len(self.marks) - 1, 3)]:
            self.marks.append((done, time.process_time(), memory()))

    def report(self) -> None:
        for i, ((n0, t0, _), (n1, t1, used)) in enumerate(zip(self.marks, self.marks[1:], strict=False), start=1):
            print(f"quarter {i}: {1e3 * (t1 - t0) / (n1 - n0):6.2f} ms a prompt, {used:7.1f} MB")
        first, last = self.marks[1], self.marks[-1]
        pace = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        print(f"last quarter against first: time x{pace[-1] / pace[0]:.3f}, memory x{last[2] / first[2]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    asked = parser.parse_args()
    quarters = Quarters(asked.prompts)

    def share(job: worker.ScoreJob, device: str, *, on_done: object) -> None:
        worker.score_share(job, device, on_done=quarters)

    score_file.score_share = share  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "prompts.csv", Path(folder) / "scores.parquet"
        write_prompts(source, asked.prompts)
        draws = Draws(asked.steps, asked.seeds)
        request = ScoreRequest("packaged:tiny", str(source), str(target), draws=draws, batch_size=asked.batch_size, top="1%")
        start = time.perf_counter()
        scored = score_file.score_file(request)
        print(f"{len(scored.prompts):,} prompts, {scored.evals_per_prompt} evaluations each: {time.perf_counter() - start:.0f} s in all")
    quarters.report()


if __name__ == "__main__":
    main()
