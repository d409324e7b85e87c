"""Training-time mitigations against naive implementations, and what must hold for each of them."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.errors import CxrguardError
from cxrguard.mitigations.training.base import Seen
from cxrguard.mitigations.training.by_timestep import HeldoutByTimestep, lowest_share
from cxrguard.mitigations.training.combined import Combined
from cxrguard.mitigations.training.loss_floor import LossFloor
from cxrguard.mitigations.training.loss_history import History, LossHistory
from cxrguard.mitigations.training.loss_skip import LossSkip


def seen(n: int, seed: int = 0, scale: float = 1.0, first_id: int = 0) -> Seen:
    """Samples whose loss depends on the timestep, and by chance."""
    rng = np.random.default_rng(seed)
    timesteps = rng.integers(0, 1000, n)
    losses = scale * (0.05 + timesteps / 1000) * np.exp(0.3 * rng.standard_normal(n))
    norms = (2 - timesteps / 1000) * np.exp(0.3 * rng.standard_normal(n))
    ids = torch.arange(first_id, first_id + n)
    return Seen(ids, torch.from_numpy(timesteps), torch.from_numpy(losses).float(), torch.from_numpy(norms).float(), ids // 2)


def made() -> list:
    return [
        LossFloor(),
        LossFloor(fraction=0.5),
        LossHistory(window=2),
        LossSkip(),
        Combined([LossFloor(), LossHistory(window=2), LossSkip()]),
        LossHistory(window=3, by="patient"),
        LossHistory(window=1, by="patient", relative=True, skip=1),
    ]


def naive_standardised(values, timesteps, heldout_values, heldout_timesteps, bins=10, n_timesteps=1000):
    out = []
    for value, timestep in zip(values, timesteps, strict=True):
        place = int(timestep) * bins // n_timesteps
        same = [math.log(v) for v, t in zip(heldout_values, heldout_timesteps, strict=True) if int(t) * bins // n_timesteps == place]
        mean = sum(same) / len(same)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in same) / (len(same) - 1))
        out.append((math.log(value) - mean) / deviation)
    return out


def test_standardised_is_the_naive_one():
    heldout, batch = seen(400), seen(50, 1, 0.7)
    usual = HeldoutByTimestep()
    usual.observe(heldout.losses, heldout.timesteps)
    expected = naive_standardised(batch.losses.tolist(), batch.timesteps, heldout.losses.tolist(), heldout.timesteps)
    assert usual.standardised(batch.losses, batch.timesteps).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_only_the_last_calibrations_count():
    old, new = seen(300, 0, 5.0), seen(300, 1)
    both, fresh = HeldoutByTimestep(rounds=1), HeldoutByTimestep(rounds=1)
    both.observe(old.losses, old.timesteps)
    both.observe(new.losses, new.timesteps)
    fresh.observe(new.losses, new.timesteps)
    assert torch.equal(both.ratio(new.losses, new.timesteps), fresh.ratio(new.losses, new.timesteps))


def test_a_bin_without_samples_takes_those_of_all():
    usual = HeldoutByTimestep()
    usual.observe(torch.full((20,), 0.5), torch.arange(20))
    assert usual.ratio(torch.tensor([0.25]), torch.tensor([900])).item() == pytest.approx(0.5)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=300), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_at_most_the_share_lies_below(values, share):
    tensor = torch.tensor(values, dtype=torch.float64)
    assert int((tensor < lowest_share(tensor, share)).sum()) <= share * len(values)


def test_the_floor_at_a_fraction():
    heldout, batch = seen(500), seen(100, 3, 0.6)
    floor = LossFloor(fraction=0.5)
    floor.calibrate(heldout)
    means = {}
    for place in range(10):
        logs = [math.log(v) for v, t in zip(heldout.losses.tolist(), heldout.timesteps.tolist(), strict=True) if t * 10 // 1000 == place]
        means[place] = math.exp(sum(logs) / len(logs))
    expected = [
        0.0 if v < 0.5 * means[t * 10 // 1000] else 1.0 for v, t in zip(batch.losses.tolist(), batch.timesteps.tolist(), strict=True)
    ]
    assert floor.weights(batch).tolist() == expected
    assert 0 < sum(expected) < 100


def test_flooding_turns_the_gradient_round():
    floor = LossFloor(fraction=0.5, ascend=True)
    floor.calibrate(seen(500))
    assert set(floor.weights(seen(100, 3, 0.6)).tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("mitigation", made(), ids=lambda m: m.name)
def test_nothing_is_held_back_before_calibration(mitigation):
    batch = seen(8)
    mitigation.record(batch)
    assert mitigation.weights(batch).tolist() == [1.0] * 8


@pytest.mark.parametrize("mitigation", [*made()[2:4], LossFloor(fpr=0.01)], ids=lambda m: m.name)
def test_few_samples_like_the_held_out_ones_are_held_back(mitigation):
    """Calibrated: of samples that nothing sets apart about as many are held back as the rate says."""
    for calibration in range(8):
        mitigation.calibrate(seen(100, 100 + calibration))
    for showing in range(4):
        batch = seen(1000, 10 + showing)
        mitigation.record(batch)
    assert float((mitigation.weights(batch) == 0).float().mean()) < 0.04


def test_a_known_sample_is_held_back_and_comes_again():
    history = LossHistory(window=4, fpr=0.01, release=0.2)
    for calibration in range(8):
        history.calibrate(seen(100, 100 + calibration))
    for showing in range(4):
        history.record(seen(10, showing, 0.1))
    assert history.weights(seen(10)).tolist() == [0.0] * 10
    for showing in range(4):
        history.record(seen(10, 20 + showing, 1.5))
    assert history.weights(seen(10)).tolist() == [1.0] * 10


def test_hysteresis_keeps_a_sample_back_between_the_thresholds():
    history = LossHistory(window=1, fpr=0.01, release=0.5)
    history.calibrate(seen(400, 1))
    hold, release = history.thresholds
    between = (hold + release) / 2
    heldout = seen(400, 1)
    for start, expected in ((hold - 1, 0.0), (between, 0.0), (release + 0.1, 1.0), (between, 1.0)):
        history.record(one(history, start, heldout))
        assert history.weights(one(history, start, heldout)).tolist() == [expected]


def one(history: LossHistory, height: float, like: Seen) -> Seen:
    """Sample 0 with a loss of this standardised height at a timestep of ``like``."""
    mean, deviation = history.usual._moments()
    place = int(like.timesteps[0]) * 10 // 1000
    loss = float((mean[place] + height * deviation[place]).exp())
    return Seen(torch.tensor([0]), like.timesteps[:1], torch.tensor([loss], dtype=torch.float64))


def test_the_history_is_the_naive_one():
    rng = np.random.default_rng(0)
    history, naive = History(3), {i: [] for i in range(6)}
    for _ in range(12):
        ids, values = rng.integers(0, 6, 5), rng.standard_normal(5)
        history.add(torch.from_numpy(ids), torch.from_numpy(values))
        for i, value in zip(ids.tolist(), values.tolist(), strict=True):
            naive[i].append(value)
    means = history.means(torch.arange(len(history.count)))
    for i in range(len(history.count)):
        if len(naive[i]) < 3:
            assert math.isnan(means[i])
        else:
            assert float(means[i]) == pytest.approx(np.mean(naive[i][-3:]), abs=1e-6)


def test_relative_to_the_first_showings_is_the_naive_one():
    rng = np.random.default_rng(1)
    history, naive = History(3, relative=True), {i: [] for i in range(4)}
    for _ in range(15):
        ids, values = rng.integers(0, 4, 2), rng.standard_normal(2)
        history.add(torch.from_numpy(ids), torch.from_numpy(values))
        for i, value in zip(ids.tolist(), values.tolist(), strict=True):
            naive[i].append(value)
    means = history.means(torch.arange(4)).tolist()
    assert sum(math.isnan(mean) for mean in means) == sum(len(values) < 6 for values in naive.values())
    for mean, values in zip(means, naive.values(), strict=True):
        if len(values) >= 6:
            assert mean == pytest.approx(np.mean(values[-3:]) - np.mean(values[:3]), abs=1e-5)


def test_an_image_that_is_easy_from_the_start_is_not_taken_for_a_memorized_one():
    absolute, relative = LossHistory(window=4, fpr=0.02), LossHistory(window=4, fpr=0.02, relative=True)
    for history in (absolute, relative):
        for calibration in range(8):
            history.calibrate(seen(100, 100 + calibration))
        for showing in range(8):
            easy, learned = seen(10, showing, 0.3), seen(10, 50 + showing, 1.0 if showing < 4 else 0.3, first_id=10)
            history.record(easy)
            history.record(learned)
    assert absolute.weights(easy).tolist() == absolute.weights(learned).tolist() == [0.0] * 10
    assert relative.weights(easy).tolist() == [1.0] * 10 and relative.weights(learned).tolist() == [0.0] * 10


def test_what_comes_before_the_skipped_calibrations_is_forgotten():
    skipping, late = LossHistory(window=2, skip=3), LossHistory(window=2)
    for showing in range(3):
        skipping.calibrate(seen(100, showing))
        late.usual.observe(seen(100, showing).losses, seen(100, showing).timesteps)
        if showing < 2:
            skipping.record(seen(10, 30 + showing, 0.1))
    assert skipping.weights(seen(10)).tolist() == [1.0] * 10
    for history in (skipping, late):
        for showing in range(4):
            history.calibrate(seen(100, 10 + showing))
            history.record(seen(10, 40 + showing, 0.7))
    assert skipping.thresholds == late.thresholds
    assert torch.equal(skipping.trained.values, late.trained.values) and torch.equal(skipping.held, late.held)


def of_patients(patients: list[int], losses: list[float], first_id: int = 0) -> Seen:
    """Samples of these patients, all at one timestep."""
    n = len(patients)
    return Seen(torch.arange(first_id, first_id + n), torch.full((n,), 500), torch.tensor(losses), None, torch.tensor(patients))


def test_by_patient_is_the_naive_one():
    rng = np.random.default_rng(3)
    history = LossHistory(window=4, fpr=0.25, release=0.5, by="patient")
    steering, trained, held, raw, answers = {}, {}, {}, [], set()
    for _ in range(6):
        patients, losses = np.repeat(np.arange(8), 2), np.exp(rng.standard_normal(16)).astype(np.float32)
        history.calibrate(of_patients(patients.tolist(), losses.tolist()))
        raw.append(np.log(losses.astype(np.float64)))
        usual = np.concatenate(raw[-4:])  # of the last four calibrations
        for patient, loss in zip(patients, losses, strict=True):
            steering.setdefault(int(patient), []).append((math.log(loss) - usual.mean()) / usual.std(ddof=1))
        means = sorted(np.mean(values[-4:]) for values in steering.values() if len(values) >= 4)
        patients, losses = rng.integers(0, 5, 7), np.exp(rng.standard_normal(7) - 0.5).astype(np.float32)
        batch = of_patients(patients.tolist(), losses.tolist())
        history.record(batch)
        for patient, loss in zip(patients, losses, strict=True):
            trained.setdefault(int(patient), []).append((math.log(loss) - usual.mean()) / usual.std(ddof=1))
        for patient in set(patients.tolist()):
            if means and len(trained[patient]) >= 4:
                mean = np.mean(trained[patient][-4:])
                held[patient] = bool(mean < means[2] or (held.get(patient) and mean < means[4]))
        expected = [0.0 if held.get(int(p)) else 1.0 for p in patients]
        assert history.weights(batch).tolist() == expected
        answers.update(expected)
    assert answers == {0.0, 1.0}, "some were held back, some not"


def test_the_copies_of_one_patient_count_together():
    """Six near copies, each shown once: too little for any of them, enough for their patient; another patient is left alone."""
    by_sample, by_patient = LossHistory(window=4, fpr=0.02), LossHistory(window=4, fpr=0.02, by="patient")
    copies = of_patients([7] * 6 + [8], [0.01] * 6 + [0.5])
    for history in (by_sample, by_patient):
        for calibration in range(4):
            history.calibrate(seen(100, 100 + calibration))
        history.record(copies)
    assert by_sample.weights(copies).tolist() == [1.0] * 7
    assert by_patient.weights(copies).tolist() == [0.0] * 6 + [1.0]
    new = of_patients([7, 9], [0.5, 0.5], first_id=50)
    by_patient.record(new)
    assert by_patient.weights(new).tolist() == [0.0, 1.0], "a further film of a patient who is held back is so too"
    unknown = Seen(copies.sample_ids, copies.timesteps, copies.losses)
    assert LossHistory(by="patient").weights(unknown).tolist() == [1.0] * 7
    assert by_patient.name == "patient_loss_history" and by_sample.name == "loss_history", "one guard may have both"


def test_loss_skip_holds_back_what_the_prompt_steers_most():
    skip = LossSkip(fpr=0.02)
    skip.calibrate(seen(1000))
    batch = seen(4, 5)
    strong = Seen(batch.sample_ids, batch.timesteps, batch.losses, batch.text_noise_norms * torch.tensor([10.0, 1, 1, 0]))
    assert skip.weights(strong).tolist() == [0.0, 1.0, 1.0, 1.0], "and never a sample whose caption is dropped"


def test_loss_skip_says_what_it_needs():
    with pytest.raises(CxrguardError, match="text noise norm"):
        LossSkip().calibrate(Seen(torch.arange(2), torch.arange(2), torch.ones(2)))


@pytest.mark.parametrize("index", range(7))
def test_state_goes_on_bit_by_bit(index, tmp_path):
    straight, resumed = made()[index], made()[index]
    for i in range(3):
        straight.calibrate(seen(120, i))
        straight.record(seen(30, 50 + i, 0.6))
    torch.save(straight.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for mitigation in (straight, resumed):
        mitigation.calibrate(seen(120, 9))
        mitigation.record(seen(30, 60, 0.6))
    assert torch.equal(straight.weights(seen(30, 61, 0.6)), resumed.weights(seen(30, 61, 0.6)))


def test_combined_is_the_strictest_and_counts():
    combined = Combined([LossFloor(fraction=0.5), LossSkip(fpr=0.1)])
    combined.calibrate(seen(500))
    batch = seen(200, 3, 0.6)
    combined.record(batch)
    parts = [part.weights(batch) for part in combined.parts.values()]
    assert torch.equal(combined.weights(batch), torch.minimum(*parts))
    counted = combined.counted()
    assert counted == {name: int((part == 0).sum()) / 200 for name, part in zip(("loss_floor", "loss_skip"), parts, strict=True)}
    assert combined.counted() == {"loss_floor": 0.0, "loss_skip": 0.0}, "each count is since the last"


def test_other_mitigations_than_the_checkpoints_are_refused():
    with pytest.raises(CxrguardError, match="other mitigations"):
        Combined([LossFloor()]).load_state_dict(Combined([LossSkip()]).state_dict())
    with pytest.raises(CxrguardError, match="same name"):
        Combined([LossFloor(), LossFloor()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossFloor(fraction=1.5), "loss_floor.fraction must lie between 0 and 1"),
        (lambda: LossSkip(fpr=0), "loss_skip.fpr"),
        (lambda: LossHistory(window=0), "window"),
        (lambda: LossHistory(fpr=0.2, release=0.1), "release >= fpr"),
        (lambda: LossHistory(by="study"), "must be sample or patient"),
        (lambda: HeldoutByTimestep(bins=0), "bins"),
    ],
)
def test_settings_out_of_range_are_told(make, message):
    with pytest.raises(CxrguardError, match=message):
        make()


@pytest.mark.parametrize("mitigation", made(), ids=lambda m: m.name)
def test_order_of_a_batch_changes_nothing(mitigation):
    """No sample's weight depends on where it stands, nor on which others are there (DESIGN, "Randomness")."""
    for i in range(3):
        mitigation.calibrate(seen(120, i))
        mitigation.record(seen(40, 20 + i, 0.5))
    batch, turned = seen(40, 30, 0.5), torch.arange(39, -1, -1)
    reverse = Seen(*(getattr(batch, field.name)[turned] for field in fields(Seen)))
    assert torch.equal(mitigation.weights(batch), mitigation.weights(reverse)[turned])
