"""Grammar defects that an edit must not bring in: counted, so that what the input already had is not held against the edit."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

_PREPOSITION = (
    r"of|in|on|at|by|for|from|with|to|into|onto|than|via|per|as|since|under|over|within|between|during|versus|vs|near|about|toward|towards"
)
_LINK = rf"{_PREPOSITION}|the|an?|and|or|nor|but|without|no|if|which|whose"
_VERB = r"is|are|was|were|has|have|had|may|might|could|can|cannot|should|would|will|appears?|remains?|seems?"
_BARE_VERB = (
    rf"{_VERB}|be|been|being|must|shows?|demonstrates?|"
    r"represents?|suggests?|reflects?|measures?|measuring|representing|suggesting|compared|reveals?|terminates?|contains?|involves?|indicates?|"
    r"overlies|containing|involving|regarding|approximately|due|secondary|related|dated|very|not|status|suspicious|suggestive|"
    r"less|followed|rather|compatible|consistent|concerning|prior|exclude|rule out|consider|recommend|most|neither|r/o|suggested|there|so|although|though|"
    r"like|please|evaluate|assess|confirm|document|determine|indicating|demonstrating|showing|because|including|versus"
)
_PATTERNS = {
    "dangling": rf"\b(?:{_LINK})(?: ?[.,;:!?)\]]|$)",
    "bare_verb": rf"\b(?:{_BARE_VERB})(?: ?[.;!?)\]]| ?$)"
    r"|\b(?:represents?|representing|suggests?|reflects?|demonstrates?|shows?|indicates?|contains?|involves?|most) ?,|\bwith (?:for|in|on|from|since|than)\b|\b(?:who|where)(?: ?[.;]| ?$)|\bbe having\b|\b(?:of|the) but\b|\bon chest ?[.,;]|\bstatus (?:with|and)\b|\bstatus ?[.,;]|\brule ?[.,;]",
    "doubled": r"[,;:] ?[,.;:]|[.!?] ?[,;:!?]|\.\s?\.(?!\.)| ,| ;|\s\.(?!\d)",
    "leading": r"^ ?[,.;:)\]!?]",
    "brackets": r"\( ?\)|\[ ?\]|\{ ?\}|\([ ,.;]|[ ,;]\)",
    "open_start": r"^(?:and|or|nor|but|of|than|versus|vs|to|which|who|whose|by|performed|obtained)\b",
    "verb_start": rf"^(?:{_VERB})\b",
    "clash": rf"\b(?:the|an?|of|with|from|to|into|versus) (?:of|and|or|nor|{_VERB}|the of|versus|vs|which|who|but|if|to|by|at)\b"
    r"|\b(?:is|are|was|were) (?:with|than|and|or|but|since|from|for|is|are|was|were|has|have|had)\b|\b(?:dr|mr|mrs|ms)\.? (?-i:[a-z])|\bwhich (?:was|were) (?:present|seen|noted|described)[.]",
    "hanging": rf"^(?:consider|recommend|suggest) (?:of|for|with|and|or)\b|\b(?:{_PREPOSITION}) (?:and|or|but|which|who|{_VERB})\b",
    "possessive": r"\w['’]s?(?: ?[.,;)]|$)|\w['’]s? (?:is|are|was|were|has|have|at|in|on|of|from|with|and|or|to|for)\b|s['’] (?:at|in|on|is|are|of|from)\b",
    "compared": r"\bcompared (?!with|to\b|from|against|and)[a-z]|\b(?:larger|smaller|greater|less|more|better|worse) than (?:on|in|at|of|from|chest)\b"
    r"|\bof patient\b"
    r"|\bsimilar to (?:study|exam|chest|prior)\b|(?:seen|visualized|identified),? from\b|, when\b|\bcompare\b",
    "lost_noun": r"\b(?:the|an?) (?:largest|smallest|larger|smaller|most|first|second|third|former|latter|other)(?: ?[.,;)]| and\b| or\b| but\b|$)|(?:^|[.;,] )(?:if|as)\b[^,;]{0,24}[.;]"
    r"|\b(?:again|also) (?:from|to|of)\b|^(?:once )?again,? (?:with|and|of)\b"
    r"|\b(?:female|male|woman|man|patient) for \w+ (?:days?|weeks?|months?|years?)\b",
    "lost_rank": r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|\d{1,2}(?:st|nd|rd|th)|indeterminate|adjacent|appearing)(?: ?[.,;)]|$)",
    "lost_size": r"\bmeasur(?:es|ed|ing) (?:up (?!to\b)|(?:in|at|of|from|along|with|and|the)\b)|\bof which measure|\bwith volume\b",
    "opposites": r"\b(?:larger|smaller|greater|better|worse|increased|decreased|improved)(?: and| but|,) (?:larger|smaller|greater|better|worse|increased|decreased)\b",
    "lost_similar": r"\b(?:position|appearance|size) to (?:the )?(?:prior|previous|study|exam)|\b(?:similar|unchanged|stable) (?:performed|obtained|dated)\b",
    "bare_end": r"\b(?:however|although|though|while|whereas|when)(?: ?[.;]| ?$)|\b(?:unable|able)(?: ?[.,;]| (?:for|in|at|of|with)\b)|\b(?:except|other|rather|aside|apart) ?[,.;]|\b(?:terminates|ends) from\b|^(?:the )?patient[.]?$",
    "lost_limit": r"\b(?:no|without|not) [a-z -]{1,60}(?:larger|greater|smaller|bigger|longer|wider) ?(?:[.,;)]|$)",
    "twice": r"\b(of|in|on|at|by|for|from|with|to|the|an?|and|or|is|are|no|the) \1\b|\b(?:and|or) (?:and|or|but)\b|\bno (?:the|an?|is|are|of|in|on)\b|\bpatient is (?:an? )?patient\b",
    "size": r"(?:\bx|×) ?(?:[cm]m|x)\b|\bx ?[.,;)]|\bfrom to\b|(?<!\d)(?<!\d )\b(?:of|to|measures|measuring|up to|than|approximately|about) [cm]m\b",
    "adjective_verb": rf"\b(?:pulmonary|costophrenic|aortic|hilar|mediastinal|cardiac|pleural|osseous|bony|thoracic|lymph|right|left|bilateral|upper|lower|"
    rf"cardiomediastinal|visualized|respiratory|vascular|interstitial|basilar) (?:{_VERB}|and|or)\b",
    "lost_head": r"\bthere (?:is|are) (?:(?:small|large|mild|moderate|minimal|stable|new|multiple|several) )*(?:left|right|bilateral|small|mild|large) ?(?:[.,;]|$)"
    r"|\bseen (?:scan|study|exam|examination|film)\b|, (?:the )?findings? ?(?:[.;]|$)|^(?:\w+ )?(?:evaluation|examination|silhouette|study) are\b"
    r"|^(?:cardiac|pulmonary|mediastinal|osseous|pleural|bony|costophrenic) (?:appears?|remains?)\b",
    "article": r"\ba (?=[aeio][a-z])|\ban (?=(?-i:[bcdfgjklmnpqrtvwyzBCDFGJKLMNPQRTVWYZ][a-z]))",
}
_COMPILED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}


@lru_cache(maxsize=16384)
def defects(sentence: str) -> Counter[str]:
    """Number of defects of each kind in one sentence (no list number, no header before it)."""
    found = Counter({name: n for name, pattern in _COMPILED.items() if (n := sum(1 for _ in pattern.finditer(sentence)))})
    if sentence[:1].islower():
        found["lower_start"] = 1
    for opening, closing in ("()", "[]"):
        if sentence.count(opening) != sentence.count(closing):
            found["unbalanced"] += 1
    return found


def brings_defect(before: str, after: str) -> bool:
    """Whether ``after`` has a kind of defect more often than ``before``."""
    new = defects(after)
    return bool(new) and bool(new - defects(before))
