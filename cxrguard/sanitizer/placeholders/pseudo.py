"""``randomize``: a pronounceable word that means nothing, another one at each place."""

from __future__ import annotations

import hashlib

# Two letters that no word of Open-I's findings and impressions has side by side (looked up once; the data set is no part of the
# tests, which look in a short list), so that whatever is built around them is no such word.
_CLUSTERS = ("zv", "vz", "fv", "vk", "kz", "zf", "vj", "jv", "fz", "zg", "gv", "vf")
_STARTS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "t", "v", "z")
_ENDS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "t", "v")
_VOWELS = ("a", "e", "i", "o", "u")
_PARTS = (_STARTS, _VOWELS, _CLUSTERS, _VOWELS, _ENDS, _VOWELS)
# A prime that divides no part's size: multiples of it walk through all words before one comes again.
_STRIDE = 104_729


def n_pseudo_words() -> int:
    """How many there are."""
    n = 1
    for part in _PARTS:
        n *= len(part)
    return n


def pseudo_word(seed: int, key: str, index: int) -> str:
    """A word that is a function of its arguments only.

    Args:
        seed: The sanitizer's seed.
        key: A hash of the text.
        index: Of the marker in the text; any two of one text get different words.

    Returns:
        Six vowels and consonants with a cluster such as "zv" in the middle.

    """
    start = int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big")
    number = (start + index * _STRIDE) % n_pseudo_words()
    word = ""
    for part in _PARTS:
        number, i = divmod(number, len(part))
        word += part[i]
    return word
