"""Classes of marked phrases: what stays of them, and what a repair may never leave behind."""

from __future__ import annotations

import pytest

from cxrguard.sanitizer.conventions import load_conventions
from cxrguard.sanitizer.pipeline import sanitize_text

CONVENTIONS = load_conventions(["auto"])

COMMUNICATION = [
    ("Small left pneumothorax, discussed with Dr. ___ by phone at 3 pm.", "Small left pneumothorax."),
    ("Dr. ___ was paged at 14:25 regarding the new right pneumothorax.", "New right pneumothorax."),
    ("Dr. ___, the referring physician, was made aware of the left nodule on ___.", "Left nodule."),
    ("There is a right effusion; Dr. ___ was called with these results at 10:20.", "There is a right effusion."),
    ("Findings of free intraperitoneal air were reported to Dr. ___ in person at 6:10 pm.", "Free intraperitoneal air."),
    ("Per discussion with Dr. ___, the patient has known sarcoidosis.", "The patient has known sarcoidosis."),
    ("Telephone notification to Dr. ___ at 9 pm regarding possible pneumonia.", "Possible pneumonia."),
    ("No evidence of pneumothorax was communicated to Dr. ___.", "No evidence of pneumothorax."),
    ("Critical result: tension pneumothorax, called to Dr. ___ at 3:12 pm.", "Tension pneumothorax."),
]
COMPARISON = [
    ("Small effusion, slightly larger than on ___ chest x-ray.", "Small effusion, slightly larger."),
    ("The mass has grown since ___, when it measured 3.1 cm; it now measures 4 cm.", "The mass has grown; it now measures 4 cm."),
    ("Right pleural effusion, seen on ___, has resolved.", "Right pleural effusion has resolved."),
    ("There is, as seen on ___, a small effusion.", "There is a small effusion."),
    ("Stable right hilar fullness, dating back to at least ___.", "Stable right hilar fullness."),
    ("Heart size is normal (unchanged from ___).", "Heart size is normal (unchanged)."),
    ("PA AND LATERAL CHEST, ___ AT 0530 HOURS", "PA AND LATERAL CHEST"),
]
NUMBERS = [
    ("Male with ___ day history of hemoptysis.", "Male with history of hemoptysis."),
    ("Woman of ___ years with sarcoid.", "Woman with sarcoid."),
    ("ET tube was ___ mm on ___ and is now 7 mm from the carina.", "ET tube is now 7 mm from the carina."),
    ("Mass of ___ x 2.0 cm in the left upper lobe.", "Mass of 2.0 cm in the left upper lobe."),
    ("Fragment displaced by less than ___ mm, with 5-___ mm of overlap.", "Fragment displaced, with overlap."),
    ("Lasix 40 mg ___ was given for edema.", "Lasix 40 mg was given for edema."),
    ("Compression deformity with ___% loss of height.", "Compression deformity with loss of height."),
    ("A ___ French pigtail catheter is in the left pleural space.", "A pigtail catheter is in the left pleural space."),
]
PARTS = [
    ("Woman with flank pain // r/o ___", "Woman with flank pain"),
    ("Negative for ___; positive for free air.", "Positive for free air."),
    ("Neither ___ nor effusion identified.", "No effusion identified."),
    ("Findings include: (a) ___, (b) mild edema, and (c) ___.", "Findings include: mild edema."),
    ("Swan-___ catheter tip in the right pulmonary artery.", "Catheter tip in the right pulmonary artery."),
    ("Knob calcified.XXXXNo infiltrate.", "Knob calcified. No infiltrate."),
    ("IMPRESSION: 1. ___. 2. Right lower lobe pneumonia.", "IMPRESSION: 1. Right lower lobe pneumonia."),
    ("Chest tube (28 ___, left) remains.", "Chest tube (left) remains."),
    ("dyspnea/XXXX, hx CABG", "dyspnea, hx CABG"),
]
INTERPRETATIONS = [
    ("Mild bibasilar airspace disease most XXXX representing atelectasis given the low lung volumes.", "Mild bibasilar airspace disease."),
    ("Worsening lower lobe opacities which are most XXXX due to enlarging effusions.", "Worsening lower lobe opacities."),
    ("Lungs demonstrate left upper lobe airspace disease most XXXX pneumonia.", "Lungs demonstrate left upper lobe airspace disease."),
    ("There is left basilar opacity XXXX atelectasis as well.", "There is left basilar opacity."),
    ("There is retrocardiac density which XXXX corresponds to the known hernia.", "There is retrocardiac density."),
    (
        "Crowded bronchovascular and interstitial markings XXXX related to low volumes.",
        "Crowded bronchovascular and interstitial markings.",
    ),
    (
        "Crowding, bibasilar opacities XXXX due at XXXX in part to atelectasis, small effusion.",
        "Crowding, bibasilar opacities, small effusion.",
    ),
    ("There are lower lobe opacities, XXXX subsegmental atelectasis and scarring.", "There are lower lobe opacities."),
    ("Bibasilar airspace opacities XXXX be atelectasis.", "Bibasilar airspace opacities."),
    ("No acute osseous injury XXXX demonstrated.", "No acute osseous injury."),
]
MASKED_NOUNS = [
    ("Stable severe L1 XXXX deformity.", "Stable severe L1 deformity."),
    ("Spine with an age-indeterminate, mild wedge XXXX deformity of T6.", "Spine with an age-indeterminate, mild wedge deformity of T6."),
    ("A dialysis catheter is in XXXX with its tip at the right atrium.", "A dialysis catheter with its tip at the right atrium."),
    ("There is at XXXX one coronary stent.", "There is one coronary stent."),
    ("Incidental note XXXX of an azygos fissure.", "Incidental note of an azygos fissure."),
    ("Considering differences in technical factors XXXX stable mild cardiomegaly.", "Stable mild cardiomegaly."),
    ("Scattered XXXX of left base atelectasis.", "Scattered left base atelectasis."),
    ("Left effusion, increased XXXX compared to the prior radiograph.", "Left effusion, increased compared to the prior radiograph."),
    ("The patient is a XXXX-year-old XXXX with dyspnea.", "The patient with dyspnea."),
    ("Dyspnea over XXXX year with shoulder injury.", "Dyspnea with shoulder injury."),
    ("Stable 5 mm granuloma adjacent to the heart XXXX.", "Stable 5 mm granuloma."),
    ("Emphysema, XXXX and coarse markings, right greater than left.", "Emphysema and coarse markings, right greater than left."),
    ("Enlarged spleen, no nodules noted within the lungs on a recent outside XXXX.", "Enlarged spleen, no nodules noted within the lungs."),
]
PREDICATES = [
    ("A similar mass was demonstrated on the ___ exam and is benign.", "A similar mass was demonstrated and is benign."),
    ("This was incompletely evaluated on ___, however, there is volvulus.", "This was incompletely evaluated, however, there is volvulus."),
    ("Fractures, present since at least ___, are again noted.", "Fractures are again noted."),
    ("Cardiomegaly, unchanged since at least ___, with mild edema.", "Cardiomegaly, unchanged, with mild edema."),
    ("Widening is similar to ___ and may be due to engorgement.", "Widening is similar and may be due to engorgement."),
    ("Lower lobe opacity since ___ could be due to edema or ___.", "Lower lobe opacity could be due to edema."),
    ("No focal consolidation to suggest ___.", "No focal consolidation."),
    ("There is no interval change from ___ or ___.", "There is no interval change."),
    ("There is no change since ___, aside from removal of the right line.", "There is no change, aside from removal of the right line."),
    ("Tube tip is in the stomach; the ___ has been removed.", "Tube tip is in the stomach."),
    ("The nodule measured 8 mm on [**2129-1-4**], and now measures 11 mm.", "The nodule measured 8 mm, and now measures 11 mm."),
    ("The lower lobe mass measures 4.5 x ___ cm, previously 3.9 x ___ cm.", "The lower lobe mass measures 4.5 cm."),
    ("[**Known lastname 12**] is a 56 year old man with edema.", "The patient is a 56 year old man with edema."),
    ("s/p CABG [**2-3**] with sternal wires intact.", "s/p CABG with sternal wires intact."),
    ("Removal of chest tube without pneumothorax as of ___.", "Removal of chest tube without pneumothorax."),
    ("There is no longer an effusion, which was present on ___.", "There is no longer an effusion."),
    ("Dr. ___ reviewed the images and agrees: no pneumothorax.", "No pneumothorax."),
    ("The patient is status post ___ with volume loss.", "The patient with volume loss."),
    ("Chest pain, rule out ___; evaluate for edema.", "Chest pain; evaluate for edema."),
]
# None has a verb: what stands whole between commas, "with", "and" and markers.
TELEGRAMS = [
    ("Preop anesthesia XXXX", "Preop anesthesia"),
    ("PRE-OP XXXX", "PRE-OP"),
    ("Preop surgical XXXX for knee surgery", "Preop for knee surgery"),
    ("preop for left hip revision XXXX.", "preop for left hip revision."),
    ("XXXX-year-old female XXXX.", "Female."),
    ("XXXX-year-old male XXXX chest pain", "Male, chest pain"),
    ("XXXX-year-old male XXXX with abnormal EKG.", "Male with abnormal EKG."),
    ("___ for one ___ with vomiting", "Vomiting"),
    ("XXXX for 5 days with chest tightness", "Chest tightness"),
    ("XXXX with low-grade XXXX and midback pain x2 weeks.", "Midback pain x2 weeks."),
    ("XXXX for one month bloody sputum for 3 days.", "Bloody sputum for 3 days."),
    ("chest pain dyspnea XXXX", "chest pain dyspnea"),
    ("Headache bodyaches chest XXXX", "Headache bodyaches"),
    ("Hx of chest pain ..no XXXX", "Hx of chest pain"),
    ("History of chest pain XXXX nausea.", "History of chest pain, nausea."),
    ("XXXX for 3 weeks history colon cancer", "History colon cancer"),
    ("XXXX, fractured femur, preop", "Fractured femur, preop"),
    ("Bone marrow transplant XXXX evaluation.", "Bone marrow transplant evaluation."),
    (",786.2 XXXX and fatigue", "Fatigue"),
    (",799.02; hypoxia ap XXXX in wheelchair", "799.02; hypoxia"),
    ("pt is a XXXX who presents with fatigue", "pt presents with fatigue"),
    ("left knee radiograph XXXX, XXXX.", "left knee radiograph."),
    ("XXXX with no fever", "No fever"),
]
# A denial, a doubt or a history that goes takes along what it may speak of; nor does a bare adjective or place stay.
NO_TELEGRAMS = [
    "XXXX or fever",
    "Denies XXXX, fever, chills",
    "r/o XXXX, pneumonia",
    "Rule out XXXX; pneumonia",
    "Possible XXXX, pneumonia, edema",
    "Resolved XXXX, pneumonia",
    "Improved XXXX, dyspnea",
    "without XXXX, dyspnea",
    "Neither XXXX, fever, nor pain",
    "XXXX ruled out, pneumonia",
    "XXXX negative, fever",
    "fever negative XXXX",
    "No chest pain XXXX",
    "No pain XXXX exertion",
    "pneumonia XXXX",
    "Pleural effusion XXXX.",
    "Screening XXXX for lung cancer",
    "History XXXX with rhonchi bone pain and nosebleed.",
    "Previous XXXX with shortness of breath, XXXX",
    "XXXX change COPD with no acute findings.",
    "Density XXXX the left lower lobe, XXXX seen, consistent worsening of tumor.",
    "No evidence of acute thoracic XXXX.",
    "Persistent XXXX.",
    "Chronic XXXX",
    "History of XXXX",
    "Left shoulder XXXX.",
    "Kidney XXXX.",
    "XXXX, XXXX loss",
]
REFUSED = [
    "There is an IVC XXXX identified.",
    "There is a right-sided chest XXXX identified whose tip projects over the SVC.",
    "There are broken 1st and 3rd-5XXXX XXXX XXXX.",
    "There is loss of disc XXXX of a vertebral body.",
    "2. Prominent bilateral XXXX, right greater than left.",
    "The left and right XXXX remain enlarged.",
    "Normal pulmonary XXXX and interstitium.",
    "CT may help if the patient is at high XXXX for lung cancer.",
    "Pneumonia (not seen before) is not seen either on XXXX.",
    "The mass is XXXX malignant.",
    "There is no pneumothorax on ___ side.",
    "The differential of which is XXXX but could include edema.",
    "Except for ___, the lungs are clear.",
    "Other than ___, the chest is normal.",
    "The patient denies ___ but has fever.",
    "Left___ pneumothorax may be seen.",
    "Lungs without ___.",
    "Shortness of ___.",
    "XXXX pneumothorax.",
    "The right pneumothorax was not discussed with Dr. ___.",
]


@pytest.mark.parametrize(
    ("before", "after"), COMMUNICATION + COMPARISON + NUMBERS + PARTS + INTERPRETATIONS + MASKED_NOUNS + PREDICATES + TELEGRAMS
)
def test_class(before: str, after: str) -> None:
    result = sanitize_text(before, CONVENTIONS)
    assert (result.text, result.status) == (after, "edited")
    assert sanitize_text(after, CONVENTIONS).text == after


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_of_it_is_safe(text: str) -> None:
    result = sanitize_text(text, CONVENTIONS)
    assert result.status == "refused" or result.text.startswith("Left pneumothorax")


@pytest.mark.parametrize("text", NO_TELEGRAMS)
def test_no_telegram_is_made_of_what_may_be_denied_or_says_nothing(text: str) -> None:
    assert sanitize_text(text, CONVENTIONS).status == "refused"


@pytest.mark.parametrize("action", ["strip", "drop_sentence"])
def test_no_telegram_for_an_action_that_repairs_nothing(action: str) -> None:
    assert sanitize_text("Preop anesthesia XXXX", CONVENTIONS, action).text in ("", "Preop anesthesia")
    assert "telegram" not in [edit.rule for edit in sanitize_text("XXXX for one XXXX with vomiting", CONVENTIONS, action).edits]


def test_telegrams_are_the_last_resort() -> None:
    # Beside a sentence that stays, one is dropped as ever.
    assert sanitize_text("No edema. Preop anesthesia XXXX", CONVENTIONS).text == "No edema."


@pytest.mark.parametrize("text", ["Dr. ___ aware.", "Call 5-___ with questions.", "Comparison is made with prior study performed on ___."])
def test_only_who_was_told_or_what_was_compared(text: str) -> None:
    assert sanitize_text(text, CONVENTIONS).status == "emptied"


def test_a_finding_that_was_told_is_never_counted_as_emptied() -> None:
    assert sanitize_text("Telephoned ___ at 3 pm: ? pneumothorax ___.", CONVENTIONS).status != "emptied"


@pytest.mark.parametrize(
    ("before", "never"),
    [
        ("The diaphragm is elevated, there are small right and XXXX left pleural effusions.", "small right."),
        ("Opacity corresponding with residual mass seen XXXX scan from XXXX.", "seen scan"),
        ("After correlation with the XXXX scan performed today, findings XXXX reflect an enlarged pulmonary artery.", "findings."),
        ("Limited evaluation reveals the XXXX XXXX are grossly intact.", "evaluation are"),
        ("Cardiac and mediastinal XXXX appear normal.", "Cardiac appears"),
    ],
)
def test_what_a_reader_found_broken_is_gone(before: str, never: str) -> None:
    assert never not in sanitize_text(before, CONVENTIONS).text
