"""Patterns of dates, studies, persons and quantities for the phrase rules (all repetition is bounded), and words for the structural ones."""

from __future__ import annotations

from cxrguard.sanitizer.communication import CLOCK
from cxrguard.sanitizer.conventions import MARK

MARKS = rf"{MARK}(?:[/:-]{MARK})*"
TIME_MARK = (
    rf"{MARKS}(?: (?:hours?|days?|weeks?|months?|years?) (?:earlier|ago|prior|before|previously)\b| ?[ap]\.?m\b\.?| (?:hours|hrs)\b| o'clock)?"
)
WHEN = rf"(?:approximately |around |about )?(?:{TIME_MARK}|(?:{CLOCK}) (?:on|of) {MARKS})(?:,? (?:at |and |to |on |of |through |approximately )?(?:{TIME_MARK}|{CLOCK})|,? at [0-2]\d[0-5]\d\b){{0,4}}"
STUDY = (
    r"studies|study|exams?|examinations?|films?|radiographs?|x-?rays?|radiography|radiographic|ct|cta|mri|mr|pet|pet-ct|scans?|images?|imaging|"
    r"tomogram|tomography|scout|views?|cxr|series|report|visit|admission|topogram|priors?|comparison|comparisons"
)
_BEFORE = (
    r"the|an?|least|this|that|his|her|patient's|prior|previous|earlier|most|recent|last|latest|outside|same|chest|thoracic|abdominal|abdomen|pelvis|pa|ap|"
    r"lateral|and|frontal|portable|from|of|on|dated|performed|obtained|taken|acquired|done|multiple|several|date|day|as|far|back|"
    r"available|nearest|immediate|preceding|remote|old|older|single|two|upright|supine|semi-upright|torso|radiographs?|at|in|initial|baseline|"
    r"preoperative|postoperative|hospital|reference|made|yesterday's|today's|their|day's|night's|morning's|semiupright|bedside|single-view|two-view|follow-up|followup|seen|noted|chest's"
)
_WORDS = rf"(?:(?:{_BEFORE}|{STUDY}),? ){{0,12}}"
_AFTER = rf"(?:'s)?(?: (?:chest|thoracic|abdominal|portable|ap|pa|frontal|lateral|and(?= (?:lateral|ap|pa|frontal|abdominal|ct)\b)|prior|outside|hospital|{STUDY})\b){{0,6}}"
PHRASE = rf"{_WORDS}{WHEN}{_AFTER}(?: (?:of|from|dated|on|performed on|obtained on) {WHEN})?"
COMPARED = (
    r"(?:(?:as |when |if )?(?:allowing for differences in technique,? )?(?:(?:after |following |upon )?compar(?:ed|ing|ison|able)|(?:after |following |upon )?correlat(?:ed|ion))(?: is| was)?(?: made| is made| was made)? (?:with|to|of|against)|"
    r"in (?:direct )?comparison (?:with|to|of)|with comparison to|by comparison (?:with|to)|relative to|as against|with reference to|in contrast to)"
)
CHANGE = (
    r"unchanged|changed?|changes|stable|improved?|improving|improvement|worse|worsen(?:ed|ing)|increased?|decreased?|larger|smaller|progress(?:ed|ion)|different|"
    r"similar|resolved|persistent|new|enlarged|advanced|lower|higher|cleared|clearing|removed|inserted|placed|repositioned|difference"
)
DOT = r"(?= ?[.;!?)]| ?$)"
STOPS = r" ?[.,;!?)]| ?$"
STOP = rf"(?={STOPS})"
SEX = r"woman|man|female|male|lady|gentleman|girl|boy"
PERSON = rf"{SEX}|patient|pt|person|infant|child|neonate|sister|brother|twin|mother|father|son|daughter|wife|husband|smoker|student|[FM]"
AGE = rf"{MARK}(?:[ -]?(?:years?|yrs?|yr?|y|months?|mo|weeks?|days?))?[ /.-]{{0,2}}(?:old|o|of age)\b\.?,?"
YO = rf"(?:{AGE}|{MARK}[ -]?(?:yo|y/o|y\.o\.?|yrs?|years?|-?yo)\b)"
NUM = r"\d{1,4}(?:\.\d{1,3})?"
UNIT = r"(?:[cm]m|millimeters?|centimeters?)"
SIZE = rf"(?:{NUM}|{MARK})"
# What is counted or measured when only the number is masked.
QUANTITY = rf"(?:{UNIT}|m?l|cc|lit(?:er|re)s?|fr|french|gauge|degrees?|percent|%|inch(?:es)?)\b"
PERIOD = r"(?:days?|weeks?|months?|years?|hours?|hrs?|wks?|yrs?|minutes?|mins?)"
PASSED = rf"(?:the )?(?:past |last |next |previous )?(?:approximately |about |over |at least )?{MARK}(?:[ -](?:to|-|or)[ -](?:{MARK}|\d{{1,2}}))?[ -]?{PERIOD}\b"
DONE = (
    r"placed|removed|clamped|performed|obtained|inserted|extubated|intubated|drained|started|discharged|admitted|transferred|advanced|repositioned|"
    r"exchanged|pulled|withdrawn|done|taken|treated|operated|acquired|completed|diagnosed|dated|resected|repaired|replaced"
)
OPERATION = (
    r"[a-z]{3,14}(?:ectomy|otomy|ostomy|plasty|centesis|scopy)|surgery|cabg|avr|mvr|tavr|transplant(?:ation)?|biopsy|resection|placement|removal|repair|"
    r"intubation|extubation|procedure|operation|radiation|chemotherapy|infarction|accident|mva|fall|trauma|admission|discharge|stenting|mi|cva|stroke|injury"
)
EPONYM = r"sign|disease|syndrome|law|lines?|node|point|classification|operation|procedure|tube|catheter|lobe|pouch|score|ring|fracture|hump|lymphoma|granulomatosis|sarcoma|carcinoma|aneurysm"
ABOUT = (
    r"(?:approximately |about |roughly |nearly |up to |at least |at most |less than |more than |greater than |larger than |maximally |~ ?)"
)
MODIFIED = r"definite|definitive|acute|focal|radiographic|convincing|other|gross|obvious|clear|significant|large|new|discrete|overt|frank|specific|suspicious"
# Of words that say what is seen; where one stands, no word may be made up beside it or taken out.
FINDING_STEMS = (
    r"pneumo|effus|consol|edema|atelec|opac|cardio|nodul|mass|fractur|infiltr|emphy|congest|hern|granul|scar|fibro|thick|larg|infect|collaps|inflat|"
    r"tumou?r|cancer|clear|normal"
)
# Before these a marker may hide "no": "XXXX change", "XXXX evidence of".
POLARITY_RISK = frozenset(["change", "changes", "evidence", "acute", "significant", "definite", "suspicious", "interval", "indication"])
NOUN_MODIFIERS = frozenset(["interval", "lung", "chest", "rib", "heart", "lobe", "spine", "lymph", "sternotomy", "pacemaker", "picc", "line", "tube", "aorta", "dual", "lead", "vertebral", "body", "wedge"])
# Words that bind a marked phrase to what stands before it: they go with it.
CARRIERS = frozenset(
    ["consistent", "compatible", "suspicious", "suggestive", "concerning", "worrisome", "secondary", "due", "related", "evidence", "signs", "sign", "question", "possible", "possibly", "likely", "possibility", "differential", "differentials", "reaccumulation", "probably", "representing", "suggesting", "reflecting", "indicating", "versus", "vs", "which", "that", "as", "negative", "history", "hx", "level"]
)
# Of these the ones that need nothing before them.
HEDGES = frozenset(["possible", "possibly", "likely", "probably", "question", "evidence", "signs", "sign", "history", "hx", "differential"])
TIES = frozenset(["except", "but", "although", "though", "however", "unless", "if", "whether", "excluded", "ruled", "exclude", "resolved", "cleared", "removed", "absent", "unlikely", "otherwise"])
# A marker before these is a number.
COUNTED = frozenset(["day", "days", "hour", "hours", "week", "weeks", "month", "months", "year", "years", "yo", "o'clock", "view", "views", "loss", "failure", "onset", "distribution", "sign", "disease", "syndrome", "fr", "french", "lumen", "pack", "side"])
# Before a marker these have said it all: what is masked is a new phrase.
PREDICATES = frozenset(["present", "absent", "normal", "clear", "intact", "stable", "unchanged", "evident", "unremarkable", "consistent"])
# "New M lobe consolidation": without its name it is no place.
PLACES_BY_NAME = frozenset(["lobe", "lobes", "ventricle", "atrium"])
PAST = frozenset(["history", "hx", "h/o", "pmh", "pmhx"])  # of all that a list after it names
EXCEPTIONS = frozenset(["if", "unless", "except", "other", "apart", "aside", "besides", "excluding", "without", "should"])
# "M deformity": of what kind is masked.
DEFORMED = frozenset(["deformity", "deformities", "fracture", "fractures"])
# "A M chest": what is masked is the study.
REGIONS = frozenset(["chest", "abdomen", "pelvis", "brain", "head", "neck", "thorax"])
# After a marker these interpret what stands before it.
INTERPRETS = frozenset(["represent", "represents", "representing", "reflect", "reflects", "reflecting", "suggest", "suggests", "suggesting", "indicate", "indicates", "indicating", "correspond", "corresponds", "corresponding", "relate", "relates", "related", "due", "secondary", "consistent", "compatible", "sequela", "sequelae", "accounting", "attributable", "favored", "be"])
# What is interpreted: a marker after it is no noun that it belongs to.
INTERPRETED = frozenset(["opacity", "opacities", "density", "densities", "calcification", "calcifications", "markings", "marking", "blunting", "prominence", "changes", "lucency", "lucencies", "opacification", "irregularity", "convexity", "disease", "scarring"])
FINDINGS = frozenset(["effusion", "effusions", "injury", "pneumothorax", "consolidation", "mass", "nodule", "nodules", "base", "apex", "abnormality", "edema", "fracture", "fractures", "atelectasis", "thickening", "enlargement", "infiltrate", "infiltrates"])
# "Loss of M": nothing by itself.
RELATIONAL = frozenset(["loss", "prominence", "part", "portion", "level", "absence", "presence", "suggestion", "appearance", "degree", "area", "areas", "focus", "foci", "number", "lack", "elevation", "obscuration", "definition", "placement", "removal", "tip", "tips", "position", "size", "couple", "few", "separation", "irregularity", "deformity", "enlargement", "note", "end", "top", "bottom", "region", "aspect", "blunting", "evaluation", "amount", "sequela", "sequelae"])
# "Adjacent to M": goes whole.
RELATED_TO = frozenset(["adjacent", "similar", "distal", "proximal", "superior", "inferior", "anterior", "posterior", "lateral", "medial", "related", "attributable", "next", "close", "prior", "secondary", "due"])
EARLIER = frozenset(["recent", "outside", "prior", "previous", "earlier", "old"])
# For telegrams ("dyspnea M"). What is complained of: whatever a marker behind it hides, it was complained of.
COMPLAINTS = frozenset(
    ["pain", "pains", "dyspnea", "tightness", "nausea", "vomiting", "chills", "fever", "fevers", "hemoptysis", "fatigue", "weakness", "wheezing", "wheeze", "congestion", "sob", "sputum", "headache", "headaches", "bodyaches", "aches", "syncope", "dizziness", "palpitations", "bleeding", "bloody", "rhonchi", "rales", "nosebleed", "constipation", "diarrhea", "sweats", "discomfort", "distress", "hypoxia", "hypoxic", "numbness", "preop", "pre-op", "preoperative", "postop", "post-op", "anesthesia", "revision", "dx", "cp", "use", "clubbing"]
)
# What says something where a comma or the like ends it. Findings that are denied as often as not are no part of either list.
CONDITIONS = COMPLAINTS | frozenset(
    ["asthma", "copd", "chf", "htn", "hypertension", "emphysema", "copd/emphysema", "tuberculosis", "tb", "pneumonia", "bronchitis", "cancer", "tumor", "lymphoma", "sarcoid", "sarcoidosis", "diabetes", "thrombosis", "dvt", "pe", "surgery", "transplant", "mastectomy", "repair", "evaluation", "workup", "work-up", "mva", "collision", "fall", "accident", "injury", "trauma", "smoker", "exsmoker", "smoking", "nonsmoker", "ekg", "ecg", "hernia", "bleed", "sounds", "etoh", "murmur", "fracture", "femur", "exertion"]
)
# Named after a marked date or before one ("left knee radiograph M").
STUDIES = frozenset(["radiograph", "radiographs", "x-ray", "x-rays", "xray", "xrays", "ct", "cta", "mri", "pet", "series", "urogram", "scan", "scans", "film", "films", "study", "studies", "cxr"])
# Alone these say nothing.
SAYS_NOTHING = REGIONS | STUDIES | frozenset(
    ["patient", "pt", "person", "year", "years", "yr", "month", "months", "week", "weeks", "day", "days", "old", "ago", "time", "date", "am", "pm", "symptoms", "symptom", "loss", "history", "hx", "change", "changes", "evaluation", "workup", "work-up", "side", "sides", "lung", "lungs", "heart", "back", "arm", "arms", "leg", "legs", "knee", "hip", "foot", "feet", "shoulder", "body", "chest", "rib", "ribs", "spine", "kidney", "bone", "bones", "hilum", "hila", "aorta", "mediastinum", "pleura", "interstitium", "parenchyma", "tissue", "tissues", "base", "bases", "lobe", "lobes", "field", "fields", "structures", "contour", "contours", "silhouette", "size", "onset", "status", "physical", "exam", "examination", "facility", "contrast", "views", "view", "gown", "none", "use", "exertion", "term", "name", "hospital", "comparison", "findings", "finding", "reason", "follow-up", "followup", "f/u", "routine", "screening", "pacs", "ap", "lateral"]
)
