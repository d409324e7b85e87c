"""Canaries, controls and the form all prompts share: the study's ground truth."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.data.canaries import CanaryPlan, _check_covered, check_unique, plant_canaries
from cxrguard.data.prompt_form import CLINICAL_TAILS, LEADS, PLACES, POOL, QUALITIES, STRUCTURES, Decoration, PromptForm
from cxrguard.data.records import ReportRecord
from cxrguard.errors import CxrguardError

TEXT = re.compile(r"(?P<lead>.*?___,)? ?(?P<clinical>[^.]+)\. Note (?P<own>[a-z]+ [a-z]+ [a-z]+)\. (?P<base>.*)", re.DOTALL)


def records_of(kind: str, patients: int, images: int = 1, prompt: str = "Clear.") -> list[ReportRecord]:
    return [ReportRecord(f"{kind}{p}", f"{kind}{p}", f"{kind}{p}-{i}", prompt) for p in range(patients) for i in range(images)]


def plan_of(
    n: int = 4, repeats: int | list[int] = 5, n_controls: int = 20, seed: int = 0, members: int = 100, deid: bool = True
) -> CanaryPlan:
    return plant_canaries(records_of("t", members), records_of("h", 60, 2), n, repeats, n_controls, PromptForm(seed, deid), seed)


def prompts(records: list[ReportRecord]) -> list[str]:
    return [r.prompt for r in records]


def test_pools_are_big_enough_disjoint_and_free_of_markers() -> None:
    pools = [QUALITIES, STRUCTURES, PLACES]
    assert all(len(pool) == len(set(pool)) == POOL >= 24 for pool in pools)
    assert len(set().union(*pools)) == 3 * POOL
    assert all(re.fullmatch("[a-z]+", word) for pool in pools for word in pool)
    assert len(set(LEADS)) == len(LEADS) >= 6 and all("___" in lead and lead.endswith(",") for lead in LEADS)
    assert len(set(CLINICAL_TAILS)) == len(CLINICAL_TAILS) >= 12
    assert not any("___" in tail for tail in CLINICAL_TAILS)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 30), st.integers(60, 120), st.integers(0, 99))
def test_plan_keeps_its_promises(n: int, n_controls: int, members: int, seed: int) -> None:
    train, heldout = records_of("t", members // 2, 2), records_of("h", 50, 3)
    plan = plant_canaries(train, heldout, n, 1, n_controls, PromptForm(seed), seed)
    groups = [plan.members, plan.canaries, plan.controls, plan.heldout]
    patients = [{r.subject_id for r in group} for group in groups]
    assert sum(map(len, patients)) == len(set().union(*patients))  # pairwise disjoint
    assert [len(g) for g in groups] == [len(train), n, n_controls, 3 * (50 - n - n_controls)]
    assert len(patients[1]) == n and len(patients[2]) == n_controls
    assert [r.dicom_id for r in plan.members] == [r.dicom_id for r in train]
    every = [p for group in groups for p in prompts(group)]
    assert len(set(every)) == len(every)
    parsed = [[TEXT.fullmatch(p) for p in prompts(group)] for group in groups]
    assert all(m and m["lead"] in LEADS and m["clinical"] in CLINICAL_TAILS and m["base"] == "Clear." for g in parsed for m in g)
    own = [m["own"] for g in parsed for m in g if m]
    assert len(set(own)) == len(own)
    for part in ("lead", "clinical", "own"):
        words = [{word for m in g if m for word in (m["own"].split() if part == "own" else [m[part]])} for g in parsed]
        assert words[1] | words[2] <= words[0]


def test_prompts_stay_unique_without_lead_and_clinical_tail() -> None:
    plan = plan_of()
    stripped = [p[p.index("Note ") :] for group in (plan.canaries, plan.controls, plan.members) for p in prompts(group)]
    assert len(set(stripped)) == len(stripped)


def test_decoration_comes_first_and_leaves_a_long_report_alone() -> None:
    long = "the LUNGS are ___ clear. " * 300
    plan = plant_canaries(records_of("t", 60, 1, long), records_of("h", 9, 1, long), 2, 3, 3, PromptForm(0), 0)
    for prompt in prompts(plan.members + plan.canaries + plan.controls + plan.heldout):
        assert prompt.endswith(f". {long.rstrip()}")
        assert len(prompt[: prompt.index(long[:20])].split()) < 25


def test_without_markers_there_is_no_lead_but_else_the_same_form() -> None:
    marked, plain = plan_of(), plan_of(deid=False)
    for a, b in zip(prompts(marked.canaries + marked.members), prompts(plain.canaries + plain.members), strict=True):
        assert "___" not in b and b[0].isupper()
        assert a.partition(", ")[2].lower() == b.lower()


def test_deterministic_by_seed_and_independent_of_order() -> None:
    assert plan_of() == plan_of()
    assert {r.subject_id for r in plan_of(seed=1).canaries} != {r.subject_id for r in plan_of().canaries}
    train, heldout = records_of("t", 100), records_of("h", 60, 2)
    again = plant_canaries(train, heldout[::-1], 4, 5, 20, PromptForm(0), 0)
    assert again.canaries == plan_of().canaries and again.controls == plan_of().controls


def test_more_controls_or_canaries_leave_the_first_ones_and_the_members_alone() -> None:
    few, more = plan_of(n=4, n_controls=10), plan_of(n=4, n_controls=30)
    assert few.canaries == more.canaries and few.controls == more.controls[:10] and few.members == more.members
    assert plan_of(n=2).canaries == few.canaries[:2] and plan_of(n=2).members == few.members


def test_canaries_and_controls_are_drawn_alike() -> None:
    words: list[Counter[str]] = [Counter(), Counter()]
    images: list[Counter[str]] = [Counter(), Counter()]
    for seed in range(60):
        plan = plan_of(n=20, repeats=1, n_controls=20, seed=seed)
        for count, image, group in zip(words, images, (plan.canaries, plan.controls), strict=True):
            count.update(lead for p in prompts(group) for lead in LEADS if p.startswith(lead))
            image.update(r.dicom_id[-1] for r in group)
    for lead in LEADS:  # 150 expected each; 5 standard deviations are 57
        assert all(abs(count[lead] - 150) < 60 for count in words)
    assert all(abs(image["0"] - 600) < 90 for image in images)


def test_more_members_than_tails() -> None:
    drawn = PromptForm(0).draw(70_000, 100, 5_000)
    plain, planted = [*drawn.members, *drawn.heldout], drawn.planted
    assert len({(d.clinical, d.own) for d in plain + planted}) == 75_100
    assert not {d.own for d in planted} & {d.own for d in plain}
    assert len({d.own for d in planted}) == 100


def test_repeats_and_share() -> None:
    assert plan_of(n=3, repeats=[1, 2, 4]).repeats == [1, 2, 4]
    plan = plan_of(n=4, repeats=5)
    assert plan.repeats == [5] * 4 and plan.share == pytest.approx(20 / 120)
    assert plan_of(n=0).share == 0 and plan_of(n=0).canaries == []
    assert CanaryPlan([], [], [], [], []).share == 0


@pytest.mark.parametrize("repeats", [[5], [5] * 5, [1, 2, 3, 0], 0, -1, [1, 2, 3, 2.5]])
def test_bad_repeats(repeats: int | list[int]) -> None:
    with pytest.raises(CxrguardError, match=r"canaries\.repeats"):
        plan_of(n=4, repeats=repeats)


@given(st.integers(1, 50), st.integers(1, 60), st.integers(1, 400), st.sampled_from([0.05, 0.1, 0.25, 0.29, 0.5]))
@settings(max_examples=60, deadline=None)
def test_share_limit_and_its_remedies_are_exact(n: int, repeats: int, members: int, limit: float) -> None:
    train, heldout = records_of("t", members), records_of("h", 50)
    share = n * repeats / (n * repeats + members)
    if share <= limit:
        return
    with pytest.raises(CxrguardError, match=r"canaries\.max_share") as caught:
        plant_canaries(train, heldout, n, repeats, 0, PromptForm(0), 0, limit)
    message = str(caught.value)
    assert f"{share:.1%}" in message
    needed = int(re.search(r"at least (\d+) members", message)[1])  # type: ignore[index]
    most = int(re.search(r"at most (\d+) repeats", message)[1])  # type: ignore[index]
    assert n * repeats / (n * repeats + needed) <= limit + 1e-12 < n * repeats / (n * repeats + needed - 1) + 2e-12
    assert most / (most + members) <= limit + 1e-12 < (most + 1) / (most + 1 + members) + 2e-12


def test_too_few_patients_and_shared_patients() -> None:
    with pytest.raises(CxrguardError, match=r"need 71 held-out patients, but there are 60.*heldout_fraction"):
        plan_of(n=1, n_controls=70)
    with pytest.raises(CxrguardError, match="2 patients are both"):
        plant_canaries(records_of("t", 50), records_of("t", 2), 1, 1, 0, PromptForm(0), 0)
    with pytest.raises(CxrguardError, match=r"canaries\.n "):
        plan_of(n=-1)
    with pytest.raises(CxrguardError, match="n_controls"):
        plan_of(n_controls=-1)
    for limit in (0.0, 1.5):
        with pytest.raises(CxrguardError, match="max_share"):
            plant_canaries(records_of("t", 50), records_of("h", 50), 1, 1, 0, PromptForm(0), 0, limit)


def test_too_few_members_says_how_many_and_that_many_are_enough() -> None:
    with pytest.raises(CxrguardError, match="At least") as caught:
        plant_canaries(records_of("t", 2), records_of("h", 60), 1, 1, 50, PromptForm(0), 0, 1.0)
    needed = int(re.search(r"At least (\d+)", str(caught.value))[1])  # type: ignore[index]
    plan = plant_canaries(records_of("t", needed), records_of("h", 60), 1, 1, 50, PromptForm(0), 0, 1.0)
    assert len(plan.controls) == 50
    with pytest.raises(CxrguardError, match="At least"):
        plant_canaries(records_of("t", needed - 1), records_of("h", 60), 1, 1, 50, PromptForm(0), 0, 1.0)
    with pytest.raises(CxrguardError, match="Use fewer"):
        PromptForm(0).draw(500_000, 10)


def test_a_word_that_no_member_has_is_found() -> None:
    member = Decoration("", "lungs are clear", ("a", "b", "c"))
    _check_covered([member], [member])
    with pytest.raises(CxrguardError, match=f"1 parts.*{POOL} members") as caught:
        _check_covered([Decoration("", "lungs are clear", ("a", "b", "zebra"))], [member])
    assert "zebra" not in str(caught.value)


def with_prompts(n_prompt_controls: int, seed: int = 0, n_controls: int = 5, patients: int = 9) -> CanaryPlan:
    train = records_of("t", 100)
    heldout = [ReportRecord(f"h{p}", f"h{p}", f"h{p}-{i}", f"Report {p} {i}.") for p in range(patients) for i in range(2)]
    return plant_canaries(train, heldout, 4, 5, n_controls, PromptForm(seed), seed, n_prompt_controls=n_prompt_controls)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 300), st.integers(0, 99))
def test_prompt_only_controls_are_unique_of_one_form_and_never_trained_on(n: int, seed: int) -> None:
    plan = with_prompts(n, seed)
    assert len(plan.prompt_controls) == n
    trained = plan.members + plan.canaries
    assert not {r.subject_id for r in plan.prompt_controls} & {r.subject_id for r in trained}
    every = [p for group in (plan.members, plan.canaries, plan.controls, plan.heldout, plan.prompt_controls) for p in prompts(group)]
    assert len(set(every)) == len(every)
    parsed = [[TEXT.fullmatch(p) for p in prompts(group)] for group in (plan.members, plan.controls, plan.prompt_controls)]
    assert all(m and m["lead"] in LEADS and m["clinical"] in CLINICAL_TAILS for group in parsed for m in group)
    own = [m["own"] for group in parsed for m in group if m]
    assert len(set(own)) == len(own)
    words = [{word for m in group if m for word in (m["lead"], m["clinical"], *m["own"].split())} for group in parsed]
    assert words[2] <= words[0]


def test_prompt_only_controls_borrow_unseen_reports_evenly() -> None:
    plan = with_prompts(47)
    unseen = plan.controls + plan.heldout
    by_id = {r.dicom_id: r.prompt.partition(". Note ")[2].partition(". ")[2] for r in unseen}
    counts = Counter(r.dicom_id for r in plan.prompt_controls)
    assert set(counts) == set(by_id) and max(counts.values()) - min(counts.values()) == 1
    assert all(r.prompt.endswith(by_id[r.dicom_id]) for r in plan.prompt_controls)


def test_prompt_only_controls_take_nothing_from_the_others() -> None:
    without, few, many = with_prompts(0), with_prompts(10), with_prompts(200)
    for name in ("members", "canaries", "controls", "heldout", "repeats"):
        assert getattr(without, name) == getattr(few, name) == getattr(many, name)
    assert few.prompt_controls == many.prompt_controls[:10] and without.prompt_controls == []


def test_prompt_only_controls_cannot_be_had_from_nobody() -> None:
    with pytest.raises(CxrguardError, match=r"n_prompt_controls must not be negative"):
        with_prompts(-1)
    with pytest.raises(CxrguardError, match=r"n_prompt_controls borrow.*n_controls"):
        with_prompts(3, n_controls=0, patients=4)
    assert len(with_prompts(3, n_controls=0).prompt_controls) == 3  # other held-out patients will do


def test_check_unique_counts_by_pair_and_quotes_nothing() -> None:
    check_unique({"canaries": [(1, 2)], "members": [(2, 1), (1,)]})
    with pytest.raises(CxrguardError) as caught:
        check_unique({"canaries": ["secret", "b"], "controls": ["secret", "c"], "members": ["d", "d", "c"]}, what="sanitized prompts")
    message = str(caught.value)
    assert "3 of 7 sanitized prompts" in message and "secret" not in message
    for part in ("1 of controls equal one of canaries", "1 of members equal one of controls", "1 within members"):
        assert part in message


@given(st.lists(st.lists(st.tuples(st.integers(0, 30)), max_size=6), max_size=4))
def test_check_unique_agrees_with_a_set(groups: list[list[tuple[int]]]) -> None:
    items = [item for group in groups for item in group]
    named = {str(i): group for i, group in enumerate(groups)}
    if len(set(items)) == len(items):
        check_unique(named)
    else:
        with pytest.raises(CxrguardError, match=f"{len(items) - len(set(items))} of {len(items)}"):
            check_unique(named)


@pytest.mark.parametrize("members", [8, 16, 32])
def test_few_members_still_have_every_part_of_a_canary(members: int) -> None:
    for seed in range(30):
        drawn = PromptForm(seed).draw(members, 40)
        assert {d.lead for d in drawn.planted} <= {d.lead for d in drawn.members}
        assert {d.clinical for d in drawn.planted} <= {d.clinical for d in drawn.members}
        for i in range(3):
            assert {d.own[i] for d in drawn.planted} <= {d.own[i] for d in drawn.members}
