"""The fact check must refuse each way in which a fact can change, and no way in which one is only left out."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from cxrguard.sanitizer import pipeline
from cxrguard.sanitizer.conventions import MARK, collapse, load_conventions
from cxrguard.sanitizer.fact_check import facts, keeps_facts, why_not

CASES = Path(__file__).resolve().parents[2] / "data/sanitizer_cases"

# MARK stands for the marker.
LEFT_OUT = [
    ("No MARK pneumothorax", "No pneumothorax"),
    ("MARK opacities.", "Opacities."),
    ("No consolidation to suggest MARK.", "No consolidation."),
    ("Opacity since MARK could be due to edema.", "Opacity could be due to edema."),
    ("There is MARK atelectasis.", "There is atelectasis."),
    ("There is no change since MARK, aside from removal of a right tube.", "There is no change, aside from removal of a right tube."),
    ("There are no MARK of a pleural effusion.", "There are no signs of a pleural effusion."),
    ("Compared to MARK, there is a stable left effusion.", "There is a stable left effusion."),
    ("Stable cardiomegaly since MARK.", "Stable cardiomegaly."),
    ("MARK year old woman with fever.", "Woman with fever."),
    ("A 3.2 x MARK cm mass.", "A 3.2 cm mass."),
    ("A 3.2 x MARK cm mass.", "A mass."),
    ("No effusion, MARK, or edema.", "No effusion or edema."),
    ("No evidence of effusion.", "No effusion."),
    ("Heart size unremarkable.", "Heart size normal."),
    ("Effusion is not seen.", "No effusion."),
    ("Normal chest x-MARK.", "Normal chest x-ray."),
    ("Normal chest x-MARK.", "Normal chest."),
    ("Heart size within normal MARK.", "Heart size within normal limits."),
    ("The heart is enlarged, MARK is clear.", "The heart is enlarged."),
    ("1. MARK. 2. No effusion.", "1. No effusion."),
    ("Lymph MARK are calcified.", "Lymph nodes are calcified."),
    ("Unchanged left effusion compared to the 2 prior studies of MARK.", "Unchanged left effusion."),
    ("No MARK, effusion, or edema.", "No effusion or edema."),
    ("Soft MARK are normal.", "Soft tissues are normal."),
    ("Opacity suspicious for MARK.", "Opacity."),
    ("Effusion on the left.\nMARK heart is normal.", "Effusion on the left. Heart is normal."),
    ("No effusion. Heart is big.", "Heart is big."),
    ("Lungs are clear, heart is MARK, bones are intact.", "Lungs are clear. Bones are intact."),
]
CHANGED = [
    ("No MARK. Pneumothorax on the left.", "No pneumothorax on the left."),
    ("No MARK, pneumothorax on the left.", "No pneumothorax on the left."),
    ("Density which MARK corresponds to a hernia.", "Density corresponds to a hernia."),
    ("Opacities seen on lateral MARK be atelectasis.", "Opacities seen on lateral be atelectasis."),
    ("Prominence most MARK indicates enlarged arteries.", "Prominence indicates enlarged arteries."),
    ("Opacity incompletely evaluated, no recent MARK for comparison.", "Opacity incompletely evaluated for comparison."),
    ("Pneumonia is not seen either on MARK.", "Pneumonia."),
    ("The nodule is not MARK identified.", "The nodule is not identified."),
    ("The mass is MARK malignant.", "The mass is malignant."),
    ("No left effusion.", "Left effusion."),
    ("Possible pneumonia.", "Pneumonia."),
    ("Effusion on the left.", "Effusion on the right."),
    ("Effusion on the left.", "Effusion."),
    ("A 3 cm mass.", "A 3 mm mass."),
    ("A 3.2 x MARK cm mass.", "A 3.2 x cm mass."),
    ("A MARK cm mass.", "A cm mass."),
    ("Clear.", "Edema."),
    ("Heart is normal. Lungs are clear.", "Heart is normal and lungs are clear."),
    ("Cannot exclude pneumonia.", "Exclude pneumonia."),
    ("Pneumonia cannot be excluded.", "Pneumonia."),
    ("Pneumonia cannot be excluded.", "Pneumonia excluded."),
    ("No new effusion.", "No effusion."),
    ("No change in effusion.", "Change in effusion."),
    ("May represent pneumonia.", "Represents pneumonia."),
    ("Atelectasis versus infiltrate.", "Atelectasis."),
    ("No focal consolidation.", "No consolidation."),
    ("Effusion is not seen in the left base.", "Effusion in the left base."),
    ("Effusion is not seen in the left base.", "Effusion."),
    ("Opacity, MARK representing pneumonia.", "Opacity representing pneumonia."),
    ("A 5 MARK catheter.", "A 5 catheter."),
    ("It measures 3.2 MARKx 4 cm.", "It measures 3.2."),
    ("It measures 3.2 x 4MARK cm.", "It measures 3.2."),
    ("It measures 3.2 xMARK 4 cm.", "It measures 3.2."),
    ("It measures 3.2MARK x 4 cm.", "It measures 3.2."),
    ("It measures 3.2 x 4 MARKcm.", "It measures 3.2 x 4."),
    ("It measures 3.2 x 4 cmMARK.", "It measures 3.2 x 4."),
    ("Stable effusion.", "Effusion."),
    ("Effusion is MARK seen.", "Effusion is seen."),
    ("A 3.2 x 4 cm mass.", "A 3.2 cm mass."),
    ("No effusion, heart is enlarged.", "No effusion, heart is not enlarged."),
    ("No pneumoMARK.", "No pneumo."),
    ("No ___. Pneumothorax on the left.", "No pneumothorax on the left."),
    ("MARK evidence of pneumothorax.", "Evidence of pneumothorax."),
    ("No effusion, edema, or pneumothorax is seen.", "Pneumothorax is seen."),
    ("No effusion but MARK edema.", "No effusion, edema."),
]


@pytest.mark.parametrize(("original", "sanitized"), LEFT_OUT)
def test_leaving_out_is_allowed(original: str, sanitized: str) -> None:
    assert why_not(original.replace("MARK", MARK), sanitized) is None


@pytest.mark.parametrize(("original", "sanitized"), CHANGED)
def test_changed_fact_is_refused(original: str, sanitized: str) -> None:
    original = original.replace("MARK", MARK)
    assert not keeps_facts(original, sanitized)
    assert keeps_facts(original, original)


def test_raw_markers_are_understood() -> None:
    assert not keeps_facts("A 3.2 x ___ cm mass.", "A 3.2 x cm mass.")
    assert keeps_facts("A 3.2 x ___ cm mass.", "A 3.2 cm mass.")
    assert not keeps_facts("No [**2101-1-1**]. Pneumothorax.", "No pneumothorax.")


def test_whole_facts_may_go() -> None:
    assert keeps_facts("No edema. Left effusion of 3 cm. Possible mass.", "Left effusion of 3 cm.")
    assert keeps_facts("No edema.", "")


@pytest.mark.parametrize(
    ("original", "sanitized", "reason"),
    [
        ("No effusion.", "Effusion.", "polarity"),
        ("Possible effusion.", "Effusion.", "hedge"),
        ("Left effusion.", "Effusion.", "side"),
        ("Stable effusion.", "Effusion.", "change"),
        ("A 3 cm mass.", "A 4 cm mass.", "number"),
        ("No large effusion.", "No effusion.", "qualifier"),
        ("A 3 x MARK cm mass.", "A 3 x cm mass.", "broken_size"),
        ("Heart is big. Lungs are clear.", "Heart is big and lungs are clear.", "joined"),
        ("Clear.", "Edema.", "gained"),
        ("No MARK.", "No.", "empty"),
        ("Mass. " + "mass " * 500, "Mass. " + "mass " * 499, "too_long"),
    ],
)
def test_reason(original: str, sanitized: str, reason: str) -> None:
    assert why_not(original.replace("MARK", MARK), sanitized) == reason


def test_facts_carry_what_is_said_of_them() -> None:
    found = {fact.word: fact for fact in facts("No new left effusion. Pneumonia cannot be excluded. A 3 mm nodule.")}
    assert (found["effusion"].negated, found["effusion"].changes, found["effusion"].sides) == (True, ("new",), ("left",))
    assert (found["pneumonia"].negated, found["pneumonia"].hedge) == (False, ("cannot exclude",))
    assert found["nodule"].numbers == ("3 mm",)
    assert facts("Effusion. Effusion.").total() == 2


@pytest.mark.parametrize(("written", "rewritten"), [("No evidence of edema", "No edema"), ("Heart is unremarkable", "Heart is normal")])
def test_boilerplate_is_no_change(written: str, rewritten: str) -> None:
    assert facts(written)[next(f for f in facts(written) if f.kind == "content")] == 1
    assert keeps_facts(written, rewritten)


def test_repairs_by_hand_pass() -> None:
    """The only count of false refusals that does not run through the check itself: outputs that people wrote."""
    refused: Counter[str | None] = Counter()
    for name in ("mimic_cxr", "open_i", "others"):
        for case in yaml.safe_load((CASES / f"{name}.yaml").read_text(encoding="utf-8")):
            names = case["convention"] if isinstance(case["convention"], list) else [case["convention"]]
            if "auto" in names:
                names = ["mimic_cxr", "mimic_iii", "open_i", "tags"]
            refused[why_not(collapse(case["text"], load_conventions(names)).text, case["ideal"] or "")] += 1
    assert refused.total() > 200
    assert refused[None] >= 0.95 * refused.total()


UNITS = ["No left effusion. ", "left no may ", "\n ", "3 x ", "a, or b, ", MARK + "Ab ", ". ", "1", "((", "a? ", '."']
WORDS = ["no", "left", "right", "may", "effusion", "or", "and", "stable", "3", "cm", ",", "x", "the", "lung", "is", "seen", "which", "with"]


@pytest.mark.parametrize("unit", UNITS)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    took = []
    for size in (100_000, 400_000):
        text = unit * (size // len(unit))
        start = time.perf_counter()
        keeps_facts(text, text[: size // 2] + " qq " + text[size // 2 :])
        took.append(time.perf_counter() - start)
    assert took[1] < 12 * max(took[0], 0.02)


def test_dense_cues_take_linear_time() -> None:
    rng = random.Random(0)
    text = ". ".join(" ".join(rng.choices([*WORDS, "heart"], k=300)) for _ in range(300))
    start = time.perf_counter()
    keeps_facts(text, text.replace(" heart", "", 30))
    assert time.perf_counter() - start < 5


def test_failed_check_ends_in_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "keeps_facts", lambda *_: False)
    result = pipeline.sanitize_text("Stable since ___.", load_conventions(["mimic_cxr"]))
    assert (result.text, result.status) == ("", "refused")


@pytest.mark.parametrize("item", ["Effusion.", "No effusion."])
def test_what_a_masked_denial_leaves_undecided_may_not_stay(item: str) -> None:
    """ "No MARK, effusion" may deny the effusion or not."""
    assert not keeps_facts("No ___, effusion.", item)
    assert keeps_facts("No ___, the lungs are clear.", "The lungs are clear.")
    assert keeps_facts("No ___, effusion or pneumothorax.", "No effusion or pneumothorax.")
