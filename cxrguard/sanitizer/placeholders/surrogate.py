"""``surrogate``: a false date, name or number of the right kind, as where identifiers were replaced in the data set itself."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Any

from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.placeholders.context import Place
from cxrguard.sanitizer.placeholders.kinds import kind_from_context, kind_from_label, parse_date
from cxrguard.sanitizer.vocabulary import FINDING_STEMS

# A surname may be "Mass", "Left" or "Short"; none that a report could mean clinically is used.
_CLINICAL = re.compile(
    rf"{FINDING_STEMS}|left|right|bilat|upper|lower|small|short|long|stone|bone|lung|heart|chest|cyst|stable|"
    r"new|old|acut|chron|mild|moder|severe|\b(?:no|not|may|can|or|sharp|foley|port|major|minor|bass|read|grant|day|will|x+)\b|_|x{3}",
    re.IGNORECASE,
)
_TRIES = 50


@lru_cache(maxsize=1)
def _faker() -> Any:
    try:
        from faker import Faker
    except ImportError:
        raise CxrguardError(
            "sanitizer action 'surrogate' needs Faker: pip install 'cxrguard[surrogates]', or choose another action."
        ) from None
    # Our own instance: seeding Faker's class would change every other user's numbers.
    return Faker("en_US", use_weighting=False)


class SurrogateMaker:
    """Surrogates of one text: a function of (seed, key, index), the same label always the same surrogate.

    Args:
        key: A hash of the original text.
        seed: The sanitizer's seed.

    Raises:
        CxrguardError: If Faker is missing.

    """

    def __init__(self, key: str, seed: int) -> None:
        self._key = f"{seed}\0{key}"
        self._faker = _faker()
        # MIMIC-III's years are 2100 to 2210: back into the years of films, all of a text by the same number of days.
        self._shift = dt.timedelta(days=self._random("shift").randrange(46_000, 51_000))

    def _random(self, what: str) -> Random:
        return Random(hashlib.blake2b(f"{self._key}\0{what}".encode(), digest_size=8).digest())

    def word(self, spot: Place, label: str, index: int) -> str | None:
        """The surrogate for one marker; None where its kind is not known or a word would be read as a measurement."""
        label = label.strip(" \n[]*").lower()
        has_label = bool(re.search(r"[^\W_]", label)) and not re.fullmatch(r"[x＿_ ]*", label)
        kind = kind_from_label(label, spot) if has_label else kind_from_context(spot)
        if kind is None:
            return None
        if kind == "date" and has_label and (date := parse_date(label)):
            return self._moved(date, label)
        # "Last Name (STitle) 12" twice is one person twice; context gives no such tie.
        return self._draw(kind, label if has_label and re.search(r"\d", label) else str(index))

    def _moved(self, date: dt.date, label: str) -> str:
        moved = date - self._shift if date.year > 2100 else date + dt.timedelta(days=self._shift.days % 1800 - 900)
        # Only what the label itself gave: a month and day without a year stay so.
        return f"{moved.month}/{moved.day}/{moved.year}" if re.match(r"\d{4}", label) else f"{moved.month}/{moved.day}"

    def _draw(self, kind: str, what: str) -> str | None:
        self._faker.seed_instance(int.from_bytes(self._random(f"{kind}\0{what}").randbytes(8), "big"))
        for _ in range(_TRIES):
            value = _MAKERS[kind](self._faker)
            if not _CLINICAL.search(value):
                return value
        return None


def _date(fake: Any) -> str:
    day = fake.date_between(dt.date(2001, 1, 1), dt.date(2016, 12, 31))
    return f"{day.month}/{day.day}/{day.year}"


_MAKERS: dict[str, Callable[[Any], str]] = {
    "date": _date,
    "day": lambda fake: f"{fake.random_int(1, 12)}/{fake.random_int(1, 28)}",
    "month": lambda fake: str(fake.month_name()),
    "year": lambda fake: str(fake.random_int(2001, 2016)),
    "time": lambda fake: f"{fake.random_int(1, 12)}:{fake.random_int(0, 59):02d}",
    "clock": lambda fake: f"{fake.random_int(0, 23):02d}:{fake.random_int(0, 59):02d}",
    "name": lambda fake: str(fake.last_name()),
    "first_name": lambda fake: str(fake.first_name()),
    "person": lambda fake: f"{fake.first_name()} {fake.last_name()}",
    "hospital": lambda fake: f"{fake.last_name()} Hospital",
    "hospital_name": lambda fake: str(fake.last_name()),
    "city": lambda fake: str(fake.city()),
    "state": lambda fake: str(fake.state()),
    "phone": lambda fake: f"555-01{fake.random_int(0, 99):02d}",
    "age": lambda fake: str(fake.random_int(20, 89)),
    "identifier": lambda fake: str(fake.random_int(1_000_000, 9_999_999)),
}
