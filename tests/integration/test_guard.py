"""The guard as a user meets it: what it holds back, what its rules do, and that all of it goes on after a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

RULE = "+guard.policy.test={_target_: cxrguard.guard.policy.Rule, signal: step, above: %s, action: %s}"
FLOOR = "++guard.mitigations.loss_floor={_target_: cxrguard.mitigations.training.loss_floor.LossFloor, fpr: %s}"
NO_HISTORY = ("guard.mitigations.loss_history=null", "guard.mitigations.patient_loss_history=null")
SHORT_HISTORY = (
    "guard.mitigations.loss_history.window=1",
    "guard.mitigations.patient_loss_history.window=1",
    "guard.mitigations.patient_loss_history.skip=0",
)
ENFORCE = ("guard=enforce", "canaries.n_steering=24", "guard.every_n_steps=2")


def audit(run: Path) -> dict:
    return json.loads((run / "audit.json").read_text())


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def exported(run: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def run(train, pipeline_dir, straight, tmp_path):
    def go(name: str, *overrides: str) -> Path:
        result = train(*straight, f"model.source={pipeline_dir}", *overrides, f"hydra.run.dir={tmp_path / name}")
        assert result.returncode == 0, result.stdout + result.stderr
        return tmp_path / name

    return go


def test_holding_back_changes_the_weights_and_is_said(run):
    strict = (FLOOR % 0.9, *NO_HISTORY)
    guarded, watched = run("guarded", *ENFORCE, *strict), run("watched", "guard=sanitize", "canaries.n_steering=24")
    held = [a for a in audit(guarded)["actions"] if a["action"] == "hold_back"]
    assert [a["step"] for a in held] == [2, 4, 6] and all(a["by"] == "loss_floor" and 0 < a["share"] < 1 for a in held)
    assert audit(watched)["actions"] == []
    assert not same(weights(guarded), weights(watched))
    assert "guard/held_back/loss_floor" in (guarded / "metrics.csv").read_text()


def test_a_guard_that_never_acts_changes_no_bit(run):
    never = "+guard.mitigations.idle={_target_: cxrguard.mitigations.training.loss_floor.LossFloor, fraction: 1e-6}"
    guarded = run("idle", *ENFORCE, never, *NO_HISTORY)
    assert same(weights(guarded), weights(run("watched", "guard=sanitize", "canaries.n_steering=24")))


def test_a_resumed_run_takes_the_same_actions(run, tmp_path):
    strict = (*ENFORCE, FLOOR % 0.5, *SHORT_HISTORY, RULE % ("2.5", "lower_rate"))
    straight = run("straight", *strict)
    run("resumed", *strict, "trainer.max_steps=4", "checkpoint.every_n_steps=2")
    resumed = run("resumed", *strict, "ckpt_path=last", "checkpoint.every_n_steps=2")
    assert audit(straight)["actions"] == audit(resumed)["actions"]
    assert {"hold_back", "lower_rate"} <= {a["action"] for a in audit(resumed)["actions"]}
    assert {"loss_floor", "loss_history", "patient_loss_history"} == {a["by"] for a in audit(resumed)["actions"] if "by" in a}
    assert same(weights(straight), weights(resumed))


def test_roll_back_ends_with_the_weights_of_the_last_quiet_round(run):
    back = run("back", "guard=monitor", RULE % ("5", "roll_back"))
    action = audit(back)["actions"][-1]
    assert (action["action"], action["step"], action["to_step"]) == ("roll_back", 6, 3)
    short = run("short", "guard=monitor", "trainer.max_steps=3")
    assert same(exported(back), exported(short))


def test_stop_ends_early_and_is_judged(run):
    stopped = run("stopped", "guard=monitor", RULE % ("2", "stop"))
    assert audit(stopped)["steps"] == 3 and audit(stopped)["actions"][-1]["action"] == "stop"


def test_a_guard_without_steering_samples_is_told_before_training(train, pipeline_dir):
    result = train(f"model.source={pipeline_dir}", "guard=enforce")
    assert result.returncode == 1
    assert "set canaries.n_steering=64" in result.stderr and "Traceback" not in result.stderr
    assert "step" not in result.stdout


def test_a_rule_about_a_figure_that_is_not_there_is_told(train, pipeline_dir):
    rule = "+guard.policy.mine={_target_: cxrguard.guard.policy.Rule, signal: nothing, above: 0, action: warn}"
    result = train(f"model.source={pipeline_dir}", "guard=monitor", rule)
    assert result.returncode == 1 and "guard.policy.mine.signal=nothing" in result.stderr


def test_two_processes_hold_back_what_one_does(run):
    strict = (*ENFORCE, FLOOR % 0.5, *SHORT_HISTORY, RULE % ("2.5", "lower_rate"))
    one, two = run("one", *strict), run("two", *strict, "data.batch_size=32", "trainer.devices=2", "trainer.strategy=ddp")
    assert audit(one)["actions"] == audit(two)["actions"]
    a, b = weights(one), weights(two)
    difference, norm = (torch.cat([x.flatten() for x in xs]).norm() for xs in ([a[n] - b[n] for n in a], a.values()))
    assert float(difference / norm) < 1e-5


def test_duplicates_are_left_out_and_that_is_said(run):
    once = run("once", "guard=monitor", "guard.repeats.images=exact")
    action = audit(once)["actions"][0]
    assert action["action"] == "limit_repeats" and action["showings_left_out"] == 16, "16 canaries, twice an epoch before"


def test_captions_vary_and_a_resumed_run_has_the_same_ones(run):
    varied = ("guard=monitor", "guard.captions.variants=3", "checkpoint.every_n_steps=2")
    straight = run("straight", *varied)
    assert audit(straight)["actions"][0]["action"] == "vary_captions"
    run("resumed", *varied, "trainer.max_steps=4")
    assert same(weights(straight), weights(run("resumed", *varied, "ckpt_path=last")))


def test_private_training_on_captions_of_labels_keeps_its_account_through_a_resume(run):
    pytest.importorskip("opacus")
    private = ("guard=dp", "model.module.unet=lora", "guard.recaption.source=labels", "checkpoint.every_n_steps=2")
    straight = run("straight", *private)
    told = audit(straight)
    assert told["privacy"]["steps"] == 6 and told["privacy"]["epsilon"] > 0
    action = told["actions"][0]
    assert action["action"] == "recaption" and action["different_captions"] < action["prompts"]
    assert told["extraction"]["wordings"] == 2, "the report and the caption are both tried"
    assert f"{told['privacy']['epsilon']:.2f}" in (straight / "MODEL_CARD.md").read_text()
    run("resumed", *private, "trainer.max_steps=4")
    resumed = run("resumed", *private, "ckpt_path=last")
    assert audit(resumed)["privacy"] == told["privacy"] and same(weights(straight), weights(resumed))


def test_mitigations_at_inference_are_compared_where_asked_for(run):
    asked = ("mitigation=inference", "mitigation.names=[random_word,static_transition]", "mitigation.samples=1")
    told = audit(compared := run("compared", "guard=monitor", *asked))["inference_mitigations"]
    assert list(told["mitigations"]) == ["none", "random_word", "static_transition"] and told["samples_per_prompt"] == 1
    assert told["mitigations"]["none"]["canaries"]["change"] == 0
    distances = {name: entry["fidelity"]["distance"]["kid"] for name, entry in told["mitigations"].items()}
    assert None not in distances.values() and distances["none"] != distances["random_word"]
    assert audit(compared)["fidelity"]["features"] == "mean_greys" and audit(compared)["fidelity"]["distance"]["kid"] is not None
    assert told["mitigations"]["random_word"]["detectors"]["text_noise_norm"]["canaries_mean"] is not None
    assert "Mitigations at inference" in (compared / "report.html").read_text()
