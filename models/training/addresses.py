"""Addresses that look real, in place of the reserved ones that comments in the repository are written with.

Nobody's address may stand in this repository, so invented spam says `something.example`. Were it trained on as it
stands, the models would learn that "example" means spam. What takes its place depends on the text alone.
"""

import hashlib
import random
import re

ENDINGS = ["com", "com", "com", "co.uk", "net", "org", "info", "shop", "online", "site", "xyz", "io", "club", "top"]
TAILS = ["uk", "official", "pro", "hq", "online", "real", "77", "x"]
SYLLABLES = ["ba", "cor", "den", "fi", "gal", "har", "jo", "kel", "lin", "mo", "nor", "pa", "ri", "sol", "tam", "ver", "wen", "zu"]

KNOWN = re.compile(r"\bexample(?=\s*(?:\.|\(\.\)|\[\.\]|dot)\s*(?:com|org|net|edu)\b)", re.I)
ENDING = re.compile(r"(?<=[.)\]])(\s*)(?:example|test|invalid)\b|(?<=dot)(\s+)example\b", re.I)
TAIL = re.compile(r"_example", re.I)
WORD = re.compile(r"example", re.I)


def realistic(text, advert):
    """`text` with reserved addresses made to look real; in an `advert` (spam) also the names of firms and accounts."""
    if not (WORD.search(text) or ".test" in text or ".invalid" in text):
        return text
    rng = random.Random(hashlib.sha256(text.encode("utf-8")).digest())

    def name(_=None):
        return "".join(rng.sample(SYLLABLES, rng.choice([2, 3])))

    text = KNOWN.sub(name, text)
    text = ENDING.sub(lambda m: (m.group(1) or m.group(2) or "") + rng.choice(ENDINGS), text)
    if advert:
        text = TAIL.sub(lambda _: "_" + rng.choice(TAILS), text)
        text = WORD.sub(lambda m: name().capitalize() if m.group(0)[0] == "E" else name(), text)
    return text
