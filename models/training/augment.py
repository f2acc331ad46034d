"""Changes of wording that must not change a judgement: applied to training rows as they are drawn, never to others.

Identity words are swapped within their kind (counterfactual augmentation: Garg et al. 2019), words are disguised as people
disguise them (leet, spacing, doubled and dropped letters), American spelling becomes British, and sentences lose their
capitals, stops and vowels as teenagers' messages do.
"""

import re

# Words of one kind replace one another. Written for this project; plurals and adjectives stand in lists of their own.
KINDS = [
    ["muslim", "christian", "jewish", "hindu", "sikh", "buddhist", "catholic", "atheist", "protestant"],
    ["muslims", "christians", "jews", "hindus", "sikhs", "buddhists", "catholics", "atheists"],
    ["black", "white", "asian", "african", "arab", "roma", "latino", "caribbean", "mixed-race"],
    ["polish", "romanian", "nigerian", "somali", "pakistani", "indian", "irish", "chinese", "turkish", "mexican",
     "english", "french", "german", "jamaican", "bangladeshi", "ukrainian", "syrian", "american"],
    ["poles", "romanians", "nigerians", "somalis", "pakistanis", "indians", "turks", "mexicans", "germans",
     "bangladeshis", "ukrainians", "syrians", "americans"],
    ["immigrants", "refugees", "migrants", "foreigners", "asylum seekers", "travellers"],
    ["gay", "lesbian", "bisexual", "queer", "trans", "transgender", "straight", "heterosexual", "homosexual"],
    ["gays", "lesbians", "trans people", "bisexuals", "queers", "straight people"],
    ["women", "men", "girls", "boys"],
    ["woman", "man", "girl", "boy"],
    ["deaf", "blind", "disabled", "autistic", "paralysed", "dyslexic"],
    ["old", "elderly", "young", "teenage", "middle-aged"],
]
PLACE = {word: kind for kind in KINDS for word in kind if word not in ("old", "young")}
IDENTITY = re.compile(r"\b(" + "|".join(sorted(map(re.escape, PLACE), key=len, reverse=True)) + r")\b", re.I)
LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
SHORT = {"you": "u", "your": "ur", "are": "r", "because": "cuz", "people": "ppl", "please": "plz", "to be honest": "tbh",
         "don't know": "dunno", "going to": "gonna", "want to": "wanna", "though": "tho", "with": "wiv", "what": "wot",
         "really": "rly", "i don't": "i dont", "can't": "cant", "it's": "its", "nothing": "nuffin", "something": "summat"}
SHORT_RE = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SHORT), key=len, reverse=True)) + r")\b", re.I)
BRITISH = {"color": "colour", "favor": "favour", "behavior": "behaviour", "neighbor": "neighbour", "honor": "honour",
           "center": "centre", "program": "programme", "organize": "organise", "recognize": "recognise", "realize": "realise",
           "apologize": "apologise", "mom": "mum", "ass": "arse", "asshole": "arsehole", "traveling": "travelling",
           "counseling": "counselling", "defense": "defence", "gray": "grey", "learned": "learnt", "soccer": "football",
           "math": "maths", "humor": "humour", "rumor": "rumour", "criticize": "criticise", "labeled": "labelled"}
BRITISH_RE = re.compile(r"\b(" + "|".join(BRITISH) + r")(s|d)?\b", re.I)
WORD = re.compile(r"[A-Za-z]{4,}")


def swap_identities(text, rng):
    """Every identity word becomes another of its kind, the same word always the same other."""
    chosen = {}

    def other(match):
        word = match.group(0).lower()
        if word not in PLACE:
            return match.group(0)
        if word not in chosen:
            kind = PLACE[word]
            chosen[word] = kind[rng.integers(len(kind))]
        return chosen[word]
    return IDENTITY.sub(other, text)


def disguise(text, rng, most=2):
    """Up to `most` longer words written as people write around a filter."""
    words = list(WORD.finditer(text))
    if not words:
        return text
    picked = sorted(rng.permutation(len(words))[:rng.integers(1, most + 1)], reverse=True)
    for at in picked:
        m = words[at]
        w = m.group(0)
        k = int(rng.integers(1, len(w) - 1))
        way = rng.integers(6)
        if way == 0:
            w = w[0] + w[1:].translate(LEET)
        elif way == 1:
            w = " ".join(w)
        elif way == 2:
            w = w[:k] + w[k] * int(rng.integers(2, 5)) + w[k + 1:]
        elif way == 3:
            w = w[:k] + w[k + 1:]
        elif way == 4:
            w = w[:k] + "*" + w[k + 1:]
        else:
            w = w[:k - 1] + w[k] + w[k - 1] + w[k + 1:]
        text = text[:m.start()] + w + text[m.end():]
    return text


def british(text):
    return BRITISH_RE.sub(lambda m: BRITISH[m.group(1).lower()] + (m.group(2) or ""), text)


def teenage(text, rng):
    text = SHORT_RE.sub(lambda m: SHORT[m.group(0).lower()], text)
    if rng.random() < 0.7:
        text = re.sub(r"[.,;:'\"]", "", text)
    return text


def draw(text, rng):
    """One training row as it is seen this time."""
    if rng.random() < 0.4:
        text = swap_identities(text, rng)
    if rng.random() < 0.15:
        text = british(text)
    if rng.random() < 0.08:
        text = teenage(text, rng)
    if rng.random() < 0.08:
        text = disguise(text, rng)
    return text
