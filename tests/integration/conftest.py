"""Runs of ``train.py`` that several tests share, two at a time.

A test says by ``@pytest.mark.runs("straight", "again")`` which runs it needs and gets them as ``runs["straight"]``. Runs
that no collected test needs are not started.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from nih_miniature import write_nih_miniature

Train = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Finished:
    """What a run left: its directory and what it printed."""

    dir: Path
    status: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


# Weights that visibly change in six steps; four batches an epoch, so that runs cross an epoch's end.
LEARNING = ["model=pipeline", "data.batch_size=64", "model.module.learning_rate=1e-3", "model.module.warmup_steps=2"]
RAW = [*LEARNING, "model.module.ema_decay=0"]
STRAIGHT = [*RAW, "canaries.n=16", "canaries.repeats=2"]
OWN_PROMPTS = ["Sentinel asterisk of the left lung.", "No sentinel asterisk."]
JUDGED_MORE = ["embedder=efficientnet_lite0", "probes.max_share=0.03"]
NIH = ["data.heldout_fraction=0.65", "data.max_bad_fraction=0.02", "base_stage.max_steps=2"]


@dataclass
class Plan:
    """How the shared runs are made."""

    root: Path
    train_in: Train
    pipeline: Path
    v_pipeline: Path

    def once(self, name: str, *overrides: str, dir_key: str = "hydra.run.dir") -> Finished:
        work = self.root / name
        work.mkdir()
        return self.go(work, name, *overrides, dir_key=dir_key)

    def go(self, work: Path, name: str, *overrides: str, dir_key: str = "hydra.run.dir") -> Finished:
        source = [] if any(o.startswith("model.source=") for o in overrides) else [f"model.source={self.pipeline}"]
        result = self.train_in(work, *source, *overrides, f"{dir_key}={work / 'out'}")
        return Finished(work / "out", result.returncode, result.stdout, result.stderr)

    def sweep(self, name: str, *overrides: str) -> Finished:
        return self.once(name, "-m", *overrides, dir_key="hydra.sweep.dir")

    # one method a run, named as in the marker

    def straight(self) -> Finished:
        return self.once("straight", *STRAIGHT)

    def again(self) -> Finished:
        return self.once("again", *STRAIGHT)

    def unprobed(self) -> Finished:
        """Also with images of the user's own prompts on the way, which must not change the weights either."""
        (self.root / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in OWN_PROMPTS))
        own = [f"validation.prompts={self.root / 'prompts.txt'}", "validation.every_n_steps=3", "validation.samples_per_prompt=2"]
        return self.once("unprobed", *STRAIGHT, "callbacks.probe=null", *own)

    def half(self) -> Finished:
        return self.once("resume", *STRAIGHT, "trainer.max_steps=3", "ckpt_path=last", "checkpoint.every_n_steps=100")

    def resumed(self) -> Finished:
        half = self.half()
        shutil.copytree(half.dir, self.root / "half")
        finished = self.go(self.root / "resume", "resume", *STRAIGHT, "ckpt_path=last")
        return Finished(finished.dir, finished.status, half.stdout + "\n--- resumed ---\n" + finished.stdout, half.stderr + finished.stderr)

    def judged_again(self) -> Finished:
        """A finished run, and in ``out`` the audit of its last checkpoint once more; the first is in ``first``."""
        overrides = [*STRAIGHT, "trainer.max_steps=3", "ckpt_path=last"]
        first = self.once("judged_again", *overrides)
        if first.status:
            return first
        shutil.copytree(first.dir, first.dir.with_name("first"))
        return self.go(first.dir.parent, "judged_again", *overrides)

    def averaged(self) -> Finished:
        return self.once("averaged", *LEARNING, "model.module.ema_decay=0.9", "sanitizer=off", *JUDGED_MORE)

    def enforced(self) -> Finished:
        return self.once("enforced", *RAW, "sanitizer=off", "gate.enforce=true", "probes.every_n_steps=0", "trainer.max_steps=2")

    def arms(self) -> Finished:
        return self.sweep("arms", *RAW, "logger=wandb", "sanitizer=off,mimic_cxr", "seed=1,2", "trainer.max_steps=3")

    def failing(self) -> Finished:
        return self.sweep("failing", *RAW, "canaries.n=9999,4", "probes.every_n_steps=0", "trainer.max_steps=2")

    def v_prediction(self) -> Finished:
        return self.once("v_prediction", *RAW, f"model.source={self.v_pipeline}", "trainer.max_steps=3", "probes.every_n_steps=0")

    def bf16(self) -> Finished:
        return self.once("bf16", *RAW, "trainer.precision=bf16-mixed", "trainer.max_steps=3", "probes.every_n_steps=0")

    def adapters(self) -> Finished:
        """Low-rank adapters of UNet and text encoder, and whatever else may go with them."""
        module = {"unet": "lora", "text_encoder": "lora", "lora_rank": 2, "min_snr_gamma": 5, "offset_noise": 0.1, "ema_decay": 0.9}
        asked = [f"model.module.{name}={value}" for name, value in module.items()]
        schedule = ["model.schedule.prediction_type=v_prediction", "model.schedule.rescale_betas_zero_snr=true"]
        return self.once("adapters", *LEARNING, *asked, *schedule, "trainer.accumulate_grad_batches=2", "trainer.max_steps=3")

    def nih(self) -> Finished:
        data = write_nih_miniature(self.root / "nih_data")
        return self.once(
            "nih", *RAW, "experiment=nih_canaries", f"data.root={data.root}", *NIH, "data.batch_size=16", "trainer.max_steps=2"
        )


class Runs:
    """Starts the runs that the collected tests need, in order, two at a time; ``runs[name]`` waits for one."""

    def __init__(self, plan: Plan, names: list[str]) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._futures: dict[str, Future[Finished]] = {name: self._pool.submit(getattr(plan, name)) for name in names}

    def __getitem__(self, name: str) -> Finished:
        return self._futures[name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def straight() -> list[str]:
    """Overrides of the shared run of this name."""
    return STRAIGHT


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "runs(*names): the shared runs of train.py that a test needs")


@pytest.fixture(scope="session", autouse=True)  # so that they run beside the tests that start runs of their own
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, train_in: Train, pipeline_dir: Path, v_pipeline_dir: Path
) -> Iterator[Runs]:
    wanted = [name for item in request.session.items for mark in item.iter_markers("runs") for name in mark.args]
    runs = Runs(Plan(tmp_path_factory.mktemp("runs"), train_in, pipeline_dir, v_pipeline_dir), list(dict.fromkeys(wanted)))
    yield runs
    runs.close()
