"""Reads the shared public sets and the authored comments into one table with masks.

Every row has a text, a split key and, for each label, a target (0..1, NaN where unknown), a weight and
whether a person gave it (`gold`). Only gold labels are used to measure. Sentences never leave the work folder.
"""

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np

import addresses
import judging
import splits
import templates
from common import ABUSE, BINARY, CLASSES, MODELS, THEMES

csv.field_size_limit(1 << 30)
NAN = float("nan")

# The most rows of a source used for fine-tuning, for calibration and for measuring (by order of the hash).
TRAIN_CAP = {
    "wiki_cat_large": 4000, "davidson": 3000, "hatexplain": 9000, "edos": 3200, "stormfront": 4000,
    "semeval2013_2016": 30000, "goemotions": 20000, "tweet_sentiment_extraction": 12000,
}
DEV_CAP = {"jigsaw_wiki": 2500, "wiki_cat_large": 1200}
DEV_CAP_DEFAULT = 1000
CALIBRATION_CAP = {"jigsaw_wiki": 1500, "wiki_cat_large": 600}
CALIBRATION_CAP_DEFAULT = 600
# The most rows of a source in one epoch of fine-tuning; the next epoch draws others. All sources are thus heard, none drowns
# the rest, and civil text (feedback, statements, plain talk) is near half.
EPOCH_QUOTA = {
    "civil_toxic": 3500, "hatexplain": 5000, "jigsaw_wiki": 10000, "wiki_cat_large": 2000, "stormfront": 2000,
    "hatemoji_build": 3500, "edos": 1500, "davidson": 1500, "goemotions": 5000, "semeval2013_2016": 9000,
    "tweet_sentiment_extraction": 4000, "vader_movies": 5500, "nhs_fft_phase1": 2500, "sms": 2000,
}
AUTHORED = ("mentoring", "next", "voices", "pairs")   # folders of comments written for this project
# What each epoch draws: how often an authored row is seen, by the folder that it stands in, each time augmented anew; and
# the share of the public quotas beside them. The last one makes what is there already better at near misses, under a lower
# rate of its own.
EPOCHS = [
    {"mentoring": 3, "next": 3, "voices": 0, "pairs": 0, "public": 1.0, "rate": 8e-5},
    {"mentoring": 3, "next": 3, "voices": 4, "pairs": 0, "public": 0.7, "rate": 8e-5},
    {"mentoring": 1, "next": 1, "voices": 1, "pairs": 4, "public": 0.2, "rate": 5e-5},
]
TEMPLATE_QUOTA = 2500
TOPIC_WORDS = re.compile(r"mentor|youth|young|school|child|kid|teen|pupil|student|teach|coach|role model", re.I)
WORD = re.compile(r"[a-z0-9$@!*']+")


class Row:
    __slots__ = ("text", "key", "part", "sources", "y", "w", "gold", "cls", "cls_w", "meta")

    def __init__(self, text, source, own_split="", together=""):
        """`together` names what must not be torn apart by the split: a minimal pair, a template's fillings."""
        self.text, self.key = text, splits.key(text)
        self.part = splits.part(splits.key(together) if together else self.key, own_split)
        self.sources = [source]
        self.y, self.w, self.gold = {}, {}, set()
        self.cls, self.cls_w, self.meta = {}, {}, {}

    def set(self, label, value, weight=1.0, gold=False):
        if label in self.gold or (label in self.y and not gold):
            return
        self.y[label], self.w[label] = float(value), weight
        if gold:
            self.gold.add(label)

    def merge(self, other):
        for s in other.sources:
            if s not in self.sources:
                self.sources.append(s)
        for label, value in other.y.items():
            self.set(label, value, other.w[label], label in other.gold)
        for name, value in other.cls.items():
            if name not in self.cls:
                self.cls[name], self.cls_w[name] = value, other.cls_w[name]
        if other.part == "dev":
            self.part = "dev"
        for k, v in other.meta.items():
            self.meta.setdefault(k, v)


def read_csv(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as f:
        yield from csv.DictReader(f)


class Lexicon:
    """A training signal for `profanity` only. The lists stay in the shared data and are never shipped."""

    def __init__(self, data):
        surge = list(read_csv(data / "lexicons/profanity_en.csv.gz"))
        with gzip.open(data / "lexicons/ldnoobw_en.txt.gz", "rt", encoding="utf-8") as f:
            ldnoobw = {line.strip().lower() for line in f if line.strip()}
        self.any = {w for w in ldnoobw if " " not in w} | {
            r["text"].lower() for r in surge if " " not in r["text"]}
        self.strong = {
            r["text"].lower() for r in surge
            if " " not in r["text"] and r["severity_description"] in ("Strong", "Severe")
            and "slur" not in r["category_1"] and "orientation" not in r["category_1"]
            and "disability" not in r["category_1"]
            and (r["text"].lower() in ldnoobw or r["canonical_form_1"].lower() in ldnoobw)}

    def judge(self, text):
        words = set(WORD.findall(text.lower()))
        if words & self.strong:
            return 1
        return None if words & self.any else 0


def not_toxic(row, weight):
    row.set("toxic", 0, weight)
    for label in ("severe", "insult", "threat", "identity_attack", "sexual"):
        row.set(label, 0, weight * 0.6)


def toxicity_rows(data):
    for path in sorted((data / "toxicity").glob("*.csv.gz")):
        for r in read_csv(path):
            row = Row(r["text"], r["source"], r["split"])
            native, source = r["native_label"], r["source"]
            weight = 1.0
            if source == "davidson":
                # Documented bias against African American English: few rows, little weight.
                weight = 0.5 if native.startswith("neither") else 0.25
                if native.startswith("offensive") and "/0 " not in native + " ":
                    continue
            for label in ABUSE:
                if r[label] != "":
                    row.set(label, float(r[label]), weight, gold=True)
            if row.y.get("toxic") == 0:
                for label in ("severe", "insult", "threat", "identity_attack", "sexual"):
                    row.set(label, 0, 0.4 * weight)
                if source in ("jigsaw_wiki", "wiki_cat_large"):
                    row.set("spam", 0, 0.3)
            if source == "civil_toxic":
                row.set("insult", 0.75, 0.3)   # most Civil Comments toxicity is insult
                row.set("severe", 0.03, 0.3)   # and almost none of it severe
                row.set("threat", 0.03, 0.2)
                row.set("spam", 0, 0.3)
            elif source == "edos":
                if native[:3] in ("2.2", "2.3", "3.1"):
                    row.set("insult", 0.8, 0.4)
                if native[:3] == "2.3":
                    row.set("sexual", 0.6, 0.3)
                if native[:2] == "1.":
                    row.set("severe", 0.7, 0.3)
            elif native == "threateninglanguage":
                row.set("severe", 0.6, 0.3)
            if row.y:
                yield row


def silver_rows(data):
    names = {"toxicity": "toxic", "severe_toxicity": "severe", "insult": "insult", "threat": "threat",
             "identity_attack": "identity_attack", "profanity": "profanity", "sexually_explicit": "sexual"}
    for r in read_csv(data / "silver/wiki_perspective_scores.csv.gz"):
        if splits.perspective_half(r["id"]) != "calibrate":
            continue
        row = Row(r["text"], r["source"])
        for column, label in names.items():
            if r[column] != "":
                row.set(label, float(r[column]), 0.5)
        yield row


def sentiment_rows(data):
    polarity = CLASSES["polarity"]
    for path in sorted((data / "sentiment").glob("*.csv.gz")):
        for r in read_csv(path):
            if r["sentiment"] not in polarity:
                continue
            row = Row(r["text"], r["source"], r["split"])
            row.cls["polarity"], row.cls_w["polarity"] = polarity.index(r["sentiment"]), 1.0
            source = r["source"]
            if source == "nhs_fft_v6":
                civil(row)
            elif source in ("uci_sentences", "vader_amazon", "senti4sd"):
                not_toxic(row, 0.2)
                row.set("spam", 0, 0.3)
                row.set("safeguarding", 0, 0.05)
            elif source == "goemotions" and r["sentiment"] != "negative":
                row.meta["mild"] = True
                row.set("spam", 0, 0.3)
            yield row


def civil(row):
    """Consultation-like text from public bodies: not abuse, not spam, (with little weight) no disclosure."""
    not_toxic(row, 0.5)
    row.set("spam", 0, 0.5)
    row.set("safeguarding", 0, 0.05)
    row.set("off_topic", 1, 0.05)


def consultation_rows(data):
    for name in ("nhs_fft_v6", "nhs_fft_phase1", "themefinder_synthetic"):
        for r in read_csv(data / f"themes/{name}.csv.gz"):
            row = Row(r["text"], r["source"], r["split"])
            civil(row)
            yield row
    for r in read_csv(data / "deliberation/polis.csv.gz"):
        if r["lang"] != "en" or r["moderated"] != "1":
            continue
        row = Row(r["text"], r["source"], r["split"])
        civil(row)
        if TOPIC_WORDS.search(r["text"]):
            row.y.pop("off_topic")
        yield row


def spam_rows(data):
    for path in sorted((data / "spam").glob("*.csv.gz")):
        for r in read_csv(path):
            row = Row(r["text"], r["source"], r["split"])
            row.set("spam", float(r["spam"]), 1.0, gold=True)
            yield row


def authored_files():
    folder = MODELS / "data"
    written = [path for part in AUTHORED for path in sorted(folder.glob(f"{part}/*.jsonl"))]
    return [*written, folder / "templates.toml"]


def authored_rows():
    """The comments written for this project; every field of the codebook is a person's judgement."""
    for path in authored_files():
        if path.suffix == ".toml":
            yield from templates.rows(path, Row)
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if not line.strip():
                continue
            r = json.loads(line)
            pair, moderation = r.get("pair"), r.get("moderation")
            text = addresses.realistic(r["text"], moderation == "spam")
            row = Row(text, f"{path.parent.name}/{path.stem}", "dev" if "heldout" in path.stem else "",
                      f"pair:{pair}" if pair else "")
            row.meta.update(authored=True, moderation=moderation or "")
            # A label that is left out was debatable; anger that is no attack still counts, weakly, as not toxic.
            for label in ABUSE:
                value = (r.get("attributes") or {}).get(label)
                if value is not None:
                    row.set(label, float(value), 1.0, gold=True)
                elif moderation in ("ok", "off_topic", "safeguarding"):
                    row.set(label, 0, 0.7)
            if moderation:
                for label in ("spam", "safeguarding", "off_topic"):
                    row.set(label, float(moderation == label), 1.0, gold=True)
            if r.get("themes") is not None:
                for label in THEMES:
                    row.set(label, float(label in r["themes"]), 1.0, gold=True)
            for head, field in (("stance", "stance"), ("attitude", "sentiment"), ("tone", "tone")):
                value = r.get(field, r.get(head))
                if value in CLASSES[head] and moderation != "spam":
                    row.cls[head], row.cls_w[head] = CLASSES[head].index(value), 1.0
            yield row


def collect(rows, lexicon):
    """One row per split key; labels of repeats are merged (people's before weak ones)."""
    table = {}
    for row in rows:
        if not row.text.strip():
            continue
        if row.key in table:
            table[row.key].merge(row)
        else:
            table[row.key] = row
    for row in table.values():
        hit = lexicon.judge(row.text)
        if row.meta.get("mild") and hit == 0:
            not_toxic(row, 0.2)
        if hit is not None and not row.meta.get("authored"):
            row.set("profanity", hit, 0.5 if hit else 0.3)
    return table


def public_table(data):
    data = Path(data)
    lexicon = Lexicon(data)

    def everything():
        for reader in (toxicity_rows, silver_rows, sentiment_rows, consultation_rows, spam_rows):
            yield from reader(data)
    return collect(everything(), lexicon)


def authored_table(data):
    return collect(authored_rows(), Lexicon(Path(data)))


def useful_first(row):
    """Rare and rich rows come before plain ones when a source is capped; then the hash decides."""
    if row.sources[0] == "jigsaw_wiki":
        rich = row.y.get("toxic") == 1 or "insult" in row.gold
        return (0 if rich else 1, row.key[8:])
    if row.sources[0] in ("wiki_cat_large", "stormfront"):
        return (0 if row.y.get("toxic") == 1 else 1, row.key[8:])
    if row.sources[0] == "davidson":
        return (0 if row.y["toxic"] == 0 or row.y["identity_attack"] == 1 else 1, row.key[8:])
    return (0, row.key[8:])


def choose(table):
    """The capped subset for each part. Dev and calibration are capped by hash only."""
    by = {}
    for row in table.values():
        by.setdefault((row.part, row.sources[0]), []).append(row)
    chosen = []
    for (part, source), rows in sorted(by.items()):
        if part == "train":
            rows = sorted(rows, key=useful_first)
            if source == "davidson":
                civil_rows = [r for r in rows if r.y["toxic"] == 0][:1400]
                hate = [r for r in rows if r.y["identity_attack"] == 1][:700]
                rest = [r for r in rows if r.y["toxic"] == 1 and r.y["identity_attack"] == 0][:900]
                rows = civil_rows + hate + rest
            cap = TRAIN_CAP.get(source, len(rows))
        else:
            rows = sorted(rows, key=lambda r: r.key[8:])
            if source == "davidson":
                cap = 600
            elif part == "dev":
                cap = DEV_CAP.get(source, DEV_CAP_DEFAULT)
            else:
                cap = CALIBRATION_CAP.get(source, CALIBRATION_CAP_DEFAULT)
        chosen.extend(rows[:cap])
    return chosen


class Frame:
    """The chosen rows as arrays."""

    def __init__(self, rows):
        n = len(rows)
        self.text = [r.text for r in rows]
        self.key = np.array([r.key for r in rows])
        self.part = np.array([r.part for r in rows])
        self.source = np.array([r.sources[0] for r in rows])
        self.authored = np.array([bool(r.meta.get("authored")) for r in rows])
        self.moderation = np.array([r.meta.get("moderation", "") for r in rows])
        self.y = np.full((n, len(BINARY)), np.nan, np.float32)
        self.w = np.zeros((n, len(BINARY)), np.float32)
        self.gold = np.zeros((n, len(BINARY)), bool)
        for i, r in enumerate(rows):
            for label, value in r.y.items():
                j = BINARY.index(label)
                self.y[i, j], self.w[i, j], self.gold[i, j] = value, r.w[label], label in r.gold
        self.cls = {c: np.array([r.cls.get(c, -1) for r in rows], np.int64) for c in CLASSES}
        self.judged = [judging.stand_in(t) for t in self.text]

    def __len__(self):
        return len(self.text)


def concat(frames):
    """Public and authored rows as one table."""
    out = object.__new__(Frame)
    out.text = [t for f in frames for t in f.text]
    out.judged = [t for f in frames for t in f.judged]
    for name in ("key", "part", "source", "authored", "moderation", "y", "w", "gold"):
        setattr(out, name, np.concatenate([getattr(f, name) for f in frames]))
    out.cls = {c: np.concatenate([f.cls[c] for f in frames]) for c in CLASSES}
    return out
