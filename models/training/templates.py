"""Comments made from our own sentence patterns (models/data/templates.toml): the same sentence about many groups of people.

A pattern is a text with places such as {group} and what holds of it; every filling shares its labels and, in the split,
its part. They teach that a group's name decides nothing and that "not", "they say" and the thing attacked decide much.
"""

import itertools
import tomllib

import numpy as np

from common import ABUSE, SEED

MOST = 14   # fillings of one pattern


def rows(path, make):
    book = tomllib.loads(path.read_text(encoding="utf-8"))
    words = book["words"]
    for number, pattern in enumerate(book["pattern"]):
        places = [name for name in words if "{" + name + "}" in pattern["text"]]
        fillings = list(itertools.product(*(words[name] for name in places)))
        order = np.random.default_rng([SEED, number]).permutation(len(fillings))[:MOST]
        for k in order:
            text = pattern["text"]
            for name, word in zip(places, fillings[k]):
                text = text.replace("{" + name + "}", word)
            row = make(text[0].upper() + text[1:], "templates", together="template:" + pattern["text"])
            row.meta.update(authored=True)
            for label in ABUSE:
                if label not in pattern.get("debatable", []):
                    row.set(label, float(label in pattern["holds"]), 1.0, gold=True)
            row.set("spam", 0, 1.0, gold=True)
            row.set("safeguarding", 0, 0.3)
            yield row
