"""The one form that every prompt of a study shares, so that no detector can tell a canary by the look of its prompt.

A decorated prompt reads ``<lead> <clinical tail>. Note <quality> <structure> <place>. <report>``. The decoration comes
first, so that truncation never takes it away. The *own tail* (the three words) makes a prompt unique; it has no
marker, so that prompts stay unique once the sanitizer has taken the lead's marker out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxrguard.data.lazy import Mapped
from cxrguard.errors import CxrguardError
from cxrguard.randomness import numpy_generator


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LEADS = (
    "In comparison with the study of ___,",
    "Compared to ___,",
    "As compared to the previous radiograph of ___,",
    "Compared with the prior study of ___,",
    "In comparison to the examination of ___,",
    "Since the radiograph of ___,",
    "Relative to the film of ___,",
    "Compared to the chest radiograph from ___,",
)
CLINICAL_TAILS = (
    "streaky opacities are unchanged",
    "lung volumes are similar",
    "the cardiac silhouette is similar in size",
    "mediastinal contours are unchanged",
    "the hila are stable in appearance",
    "the bony thorax is unchanged",
    "basal markings are similar",
    "vascular markings are unchanged",
    "the diaphragm is stable in position",
    "the trachea is stable in position",
    "aeration is similar",
    "the pleural margins are unchanged",
    "the soft tissues are stable in appearance",
    "the pulmonary vasculature is similar",
)
QUALITIES = _words(
    "calcified faint dense hazy nodular linear reticular patchy rounded lobulated smooth irregular tiny coarse fine tubular "
    "curvilinear oval stellate branching punctate confluent wispy mottled layered spiculated ropy granular lucent cystic "
    "angular tapered"
)
STRUCTURES = _words(
    "granuloma scar opacity shadow band density fissure septum bronchus vessel node plaque cyst bulla fold bridge ridge "
    "spur callus clip wire suture stripe crease notch hump web island cap bar rim thickening"
)
PLACES = _words(
    "apex base hilum lingula carina periphery axilla sternum clavicle scapula humerus sulcus aorta atrium ventricle "
    "diaphragm trachea mediastinum azygos spine rib neck flank pleura pericardium manubrium xiphoid costophrenic "
    "paraspinal retrocardiac perihilar infraclavicular"
)
POOL = len(QUALITIES)
MARKER = "___"
ORDINARY_WORD = "baseline"  # one word for all, as the marker is one for all
ARMS = ("marker", "word", "none")


@dataclass(frozen=True)
class Decoration:
    """What one prompt is given; an empty ``lead`` where the study has no markers."""

    lead: str
    clinical: str
    own: tuple[str, str, str]

    def apply(self, prompt: str) -> str:
        """The decorated prompt; the report itself is left as it is."""
        opening = f"{self.lead} {self.clinical}" if self.lead else self.clinical[0].upper() + self.clinical[1:]
        return f"{opening}. Note {' '.join(self.own)}. {prompt}".rstrip()


@dataclass(frozen=True)
class DrawnForms:
    """Decorations of the planted records (canaries, then controls), the members and the held-out records."""

    planted: Sequence[Decoration]
    members: Sequence[Decoration]
    heldout: Sequence[Decoration]


@dataclass(frozen=True)
class PromptForm:
    """Draws decorations, a function of the seed and the counts only.

    Args:
        seed: another seed gives other decorations.
        deid_markers: write the lead, with its ``___``; False leaves it out.
        arms: for a study of the marker itself: the lead keeps its marker (``marker``), has an ordinary word in its place
            (``word``) or is left out (``none``), in turn over the records of a group.
        arm_shift: turns the arms of the planted records round, so that over as many runs as there are arms each canary
            is in each arm once, beside the same members.

    """

    seed: int
    deid_markers: bool = True
    arms: tuple[str, ...] = ()
    arm_shift: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.arms) - set(ARMS))
        if unknown:
            raise CxrguardError(f"canaries.arms knows {', '.join(ARMS)}, not {', '.join(unknown)}.")
        if self.arms and not self.deid_markers:
            raise CxrguardError("canaries.arms compares prompts with and without a marker; it needs data.deid_markers=true.")

    def arm_of_planted(self, index: int) -> str:
        """The arm of the ``index``-th planted record; there must be :attr:`arms`."""
        return self.arms[(index + self.arm_shift) % len(self.arms)]

    def draw(self, n_members: int, n_planted: int, n_heldout: int = 0) -> DrawnForms:
        """Draw all decorations of a study.

        A planted record has an own tail that no other record has. Members and held-out records have one each too while
        tails last (32,768); after that a tail comes back with another clinical tail, so prompts stay unique.

        The first members run through every word, lead and clinical tail in use, so that a canary has none that no
        member has; with fewer than :data:`POOL` members only as many words are in use.
        """
        k = min(POOL, n_members) or POOL
        if not _fits(k, n_members, n_planted, n_heldout):
            needed = next((m for m in range(1, POOL + 1) if _fits(m, m, n_planted, n_heldout)), None)
            remedy = f"At least {needed} members are needed" if needed and needed > n_members else "Use fewer canaries, controls or samples"
            raise CxrguardError(
                f"{n_members} members give too few prompt tails for {n_planted} canaries and controls "
                f"and {n_heldout} held-out samples. {remedy}."
            )
        rng = numpy_generator("prompt-form", self.seed)
        pools = [[str(word) for word in rng.permutation(pool)[:k]] for pool in (LEADS, CLINICAL_TAILS, QUALITIES, STRUCTURES, PLACES)]
        diagonal = np.arange(k) * (k * k + k + 1)  # tail (i, i, i): k members use every word once
        others = rng.permutation(np.setdiff1d(np.arange(k**3), diagonal))
        ordinary, planted = np.split(others, [len(others) - n_planted])
        plain = self._ordinary(pools, np.concatenate([diagonal, ordinary]), n_members + n_heldout)
        draw = numpy_generator("prompt-form-planted", self.seed)
        choices = draw.integers(0, [len(pools[0]), len(pools[1])], size=(n_planted, 2))
        # from the end, so that another number of canaries leaves the members' tails alone
        special = [self._make(pools, int(a), int(b), int(t)) for (a, b), t in zip(choices, planted[::-1], strict=True)]
        if self.arms:
            special = [_in_arm(d, self.arm_of_planted(i)) for i, d in enumerate(special)]
        return DrawnForms(special, Mapped(range(n_members), plain), Mapped(range(n_members, n_members + n_heldout), plain))

    def _ordinary(self, pools: list[list[str]], tails: np.ndarray, count: int) -> Callable[[int], Decoration]:
        """Makes the ``i``-th of the members' and held-out records' decorations, in its arm."""
        leads, clinical = len(pools[0]), len(pools[1])
        # a generator each, so that other counts leave the first records' draws alone
        lead_of = numpy_generator("prompt-form-lead", self.seed).integers(0, leads, size=count)
        clinical_of = numpy_generator("prompt-form-clinical", self.seed).integers(0, clinical, size=len(tails))
        first = min(count, len(pools[2]))
        lead_of[:first] = np.arange(first) % leads
        clinical_of[:first] = np.arange(first) % clinical

        def make(i: int) -> Decoration:
            lap, tail = divmod(i, len(tails))
            made = self._make(pools, int(lead_of[i]), int(clinical_of[tail] + lap) % clinical, int(tails[tail]))
            return _in_arm(made, self.arms[i % len(self.arms)]) if self.arms else made

        return make

    def _make(self, pools: list[list[str]], lead: int, clinical: int, tail: int) -> Decoration:
        k = len(pools[2])
        own = (pools[2][tail // (k * k)], pools[3][tail // k % k], pools[4][tail % k])
        return Decoration(pools[0][lead] if self.deid_markers else "", pools[1][clinical], own)


def _in_arm(decoration: Decoration, arm: str) -> Decoration:
    if arm == "none":
        return replace(decoration, lead="")
    return decoration if arm == "marker" else replace(decoration, lead=decoration.lead.replace(MARKER, ORDINARY_WORD))


def _fits(k: int, n_members: int, n_planted: int, n_heldout: int) -> bool:
    """Whether ``k`` words a pool are enough: planted tails besides the diagonal, and (tail, clinical tail) pairs for the rest."""
    tails = k**3 - n_planted
    return tails >= k and tails * min(k, len(CLINICAL_TAILS)) >= n_members + n_heldout
