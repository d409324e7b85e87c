"""The fact check: does a sanitized prompt say anything its original did not? It fails closed and shares no code with the repair rules.

Every content word is a fact with the attributes that its clause gives it (:mod:`.reading`). A sanitized sentence must be one
original sentence with words left out (:mod:`.check`): nothing gained, no order changed, no attribute lost by a word that stays.
"""

from cxrguard.sanitizer.fact_check.check import keeps_facts, why_not
from cxrguard.sanitizer.fact_check.reading import Fact, facts

__all__ = ["Fact", "facts", "keeps_facts", "why_not"]
