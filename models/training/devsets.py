"""The fixed dev split as labelled files for `moothall eval`, with two simple systems beside it.

Writes `dev/` in the work folder: one JSON Lines file per task, predictions of VADER and of TF-IDF with logistic
regression in the shape that `moothall assess` prints, and `suite.toml`, which names them all. The sentences stay in
the work folder. Only labels that a person gave are written; what nobody said is left out, which means unknown.
"""

import csv
import gzip
import json
import pickle
import re

import numpy as np

import splits
from common import ABUSE, BINARY, CLASSES, MODELS, THEMES, write_atomic

csv.field_size_limit(1 << 30)

# Words that name groups of people, after the lists of Dixon et al. (2018) and Borkan et al. (2019), gathered by group.
IDENTITIES = {name: re.compile(rf"\b(?:{words})\b", re.I) for name, words in {
    "women": r"wom[ae]n|females?|girls?|lad(?:y|ies)|feminists?|wives|wife|mothers?|mums?",
    "men": r"m[ae]n|males?|boys?|husbands?|fathers?|dads?",
    "gay, lesbian, bisexual": r"gays?|lesbians?|bisexuals?|homosexuals?|lgbtq?|queers?",
    "transgender": r"trans|transgender(?:ed)?|transsexuals?|non-?binary",
    "Muslim": r"muslims?|moslems?|islam(?:ic)?|mosques?",
    "Jewish": r"jew(?:s|ish)?|jud(?:aism|aic)|synagogues?|israelis?",
    "Christian": r"christians?|catholics?|protestants?|church(?:es)?|evangelicals?",
    "black": r"blacks?|african(?:s|-americans?)?|africa",
    "white": r"whites?|caucasians?",
    "Asian": r"asians?|chinese|indians?|pakistanis?|japanese|koreans?",
    "Latin American": r"mexicans?|hispanics?|latin[oa]s?",
    "immigrant": r"immigrants?|immigration|migrants?|refugees?|asylum|foreigners?",
    "disabled or ill": r"disab(?:led|ility)|autis(?:m|tic)|blind|deaf|wheelchair|mental(?:ly)? (?:ill(?:ness)?|health)|depress(?:ed|ion)",
    "old": r"old(?:er)? people|elderly|pensioners?|seniors?",
    "young": r"teen(?:s|agers?)?|young people|kids?|child(?:ren)?",
}.items()}

VADER_LEAST = 0.05   # VADER's published bounds on `compound`: from here up positive, from its negative down negative


def identities(text):
    return [name for name, words in IDENTITIES.items() if words.search(text)]


def lines(path, rows):
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def whole(value):
    """0 and 1 as people write them, shares of raters as they are."""
    return int(value) if value in (0, 1) else round(float(value), 6)


def labelled(f, i, labels, classes=(), **more):
    row = {"id": str(f.key[i])[:16], "text": f.text[i], "source": str(f.source[i]), **more}
    for label in labels:
        j = BINARY.index(label)
        if f.gold[i, j]:
            row[label] = whole(float(f.y[i, j]))
    for head, field in classes:
        if f.cls[head][i] >= 0:
            row[field] = CLASSES[head][f.cls[head][i]]
    return row


def best_f1(p, y):
    """The point from which tagging gives the best F1."""
    points = np.linspace(0.1, 0.9, 41)
    return float(max(points, key=lambda at: 2 * ((p >= at) & y).sum() / max((p >= at).sum() + y.sum(), 1)))


class Tfidf:
    """What `train.py baselines` kept, by the rows' keys."""

    def __init__(self, path):
        saved = pickle.loads(path.read_bytes())
        self.at = {k[:16]: i for i, k in enumerate(saved["keys"])}
        self.binary, self.classes = saved["binary"], saved["classes"]
        self.points = {}

    def tag_points(self, frame):
        """Each theme's own best point on the calibration part, as ours has."""
        aligned = np.full((len(frame), len(BINARY)), np.nan)
        for i, k in enumerate(frame.key):
            if k[:16] in self.at:
                aligned[i] = self.binary[self.at[k[:16]]]
        for theme in THEMES:
            j = BINARY.index(theme)
            rows = (frame.part == "calibration") & ~np.isnan(aligned[:, j]) & frame.authored & frame.gold[:, j]
            y = frame.y[rows, j] > 0.5
            self.points[theme] = best_f1(aligned[rows, j], y) if y.sum() >= 5 else 0.5

    def answer(self, row_id, labels, classes, themes):
        i = self.at.get(row_id)
        if i is None:
            return None
        known = {label: round(float(self.binary[i, BINARY.index(label)]), 6) for label in labels
                 if not np.isnan(self.binary[i, BINARY.index(label)])}
        out = {"id": row_id, "attributes": known}
        for head, field in classes:
            p = self.classes[head][i]
            if not np.isnan(p).any():
                out[field] = {"label": CLASSES[head][int(p.argmax())], "probability": round(float(p.max()), 6)}
        if themes:
            p = {t: float(self.binary[i, BINARY.index(t)]) for t in THEMES}
            if not any(np.isnan(v) for v in p.values()):
                out["theme_probabilities"] = {t: round(v, 6) for t, v in p.items()}
                out["themes"] = [{"id": t, "probability": round(p[t], 6)} for t in THEMES if p[t] >= self.points[t]]
        return out


def vader(rows):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    analyser = SentimentIntensityAnalyzer()
    for row in rows:
        compound = analyser.polarity_scores(row["text"])["compound"]
        label = "positive" if compound >= VADER_LEAST else "negative" if compound <= -VADER_LEAST else "neutral"
        yield {"id": row["id"], "sentiment": {"label": label}}


def read_csv(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as f:
        yield from csv.DictReader(f)


def perspective(data, taught):
    """The half of the published scores that is only for reporting, without texts that were trained on elsewhere."""
    names = {"toxicity": "toxic", "severe_toxicity": "severe", "insult": "insult", "threat": "threat",
             "identity_attack": "identity_attack", "profanity": "profanity", "sexually_explicit": "sexual"}
    for r in read_csv(data / "silver/wiki_perspective_scores.csv.gz"):
        k = splits.key(r["text"])
        if splits.perspective_half(r["id"]) == "report" and k not in taught:
            yield {"id": k[:16], "text": r["text"], "source": "perspective_wiki",
                   **{label: whole(float(r[column])) for column, label in names.items() if r[column] != ""}}


def spans(data, taught):
    with gzip.open(data / "spans/civil_toxic_spans.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            r = json.loads(line)
            k = splits.key(r["text"])
            if splits.part(k, r["split"]) == "dev" and k not in taught:
                yield {"id": k[:16], "text": r["text"], "spans": r["spans"]}


class WordList:
    """Marks every word of two public lists of offensive words; a baseline for spans. The lists are not shipped."""

    def __init__(self, data):
        with gzip.open(data / "lexicons/ldnoobw_en.txt.gz", "rt", encoding="utf-8") as f:
            words = {line.strip().lower() for line in f if line.strip()}
        words |= {r["text"].lower() for r in read_csv(data / "lexicons/profanity_en.csv.gz")}
        self.any = {w for w in words if " " not in w}

    def spans(self, text):
        return [[m.start(), m.end()] for m in re.finditer(r"[\w$@!*']+", text) if m.group().lower() in self.any]


def unique(rows):
    """One row per id; a text that stands twice is measured once."""
    return list({row["id"]: row for row in rows}.values())


class Suite:
    def __init__(self, folder, tfidf):
        self.folder, self.tfidf = folder, tfidf
        self.text = [f"title = {json.dumps('Measured on the dev split')}", f"note = {json.dumps(NOTE)}"]

    def add(self, name, title, note, rows, consultation, groups=(), labels=(), classes=(), themes=False, systems=()):
        rows = unique(rows)
        if not rows:
            return
        lines(self.folder / f"{name}.jsonl", rows)
        against = []
        for system, answers in systems:
            path = f"{system.lower().replace(' ', '-')}/{name}.jsonl"
            lines(self.folder / path, answers(rows))
            against.append((system, path))
        if self.tfidf and (labels or classes or themes):
            answers = [self.tfidf.answer(row["id"], labels, classes, themes) for row in rows]
            answers = [a for a in answers if a]
            if answers:
                lines(self.folder / f"tf-idf/{name}.jsonl", answers)
                against.append(("TF-IDF", f"tf-idf/{name}.jsonl"))
        listed = ", ".join(f"{{ name = {json.dumps(s)}, file = {json.dumps(p)} }}" for s, p in against)
        self.text += ["", "[[set]]", f"name = {json.dumps(title)}", f'file = "{name}.jsonl"',
                      f'consultation = "{consultation}"', f"note = {json.dumps(note)}",
                      f"groups = {json.dumps(list(groups))}", f"against = [{listed}]"]
        print(f"{name}: {len(rows)} rows, beside {', '.join(s for s, _ in against) or 'nothing'}", flush=True)

    def finish(self):
        write_atomic(self.folder / "suite.toml", "\n".join(self.text) + "\n")


NOTE = (
    "Rows are put into train, calibration and dev by a hash of their text, before anything was trained "
    "(training/SPLITS.md). No row below was trained or calibrated on. Other rows of the same sources were, so these "
    "figures are kinder than those on comments from elsewhere will be. VADER is the published word "
    "list with its rules and bounds; TF-IDF is words 1-2 and characters 3-5 with logistic regression on every train row that "
    "ours may learn from, its theme points chosen on the calibration part as ours are.")


def write(work, data, public, authored):
    """All files; `public` and `authored` are the tables that the models are trained from."""
    path = work / "baselines.pkl"
    tfidf = Tfidf(path) if path.exists() else None
    if tfidf:
        tfidf.tag_points(authored)
    else:
        print("no baselines.pkl in the work folder: TF-IDF is left out; `train.py baselines` makes it", flush=True)
    suite = Suite(work / "dev", tfidf)
    dev = np.flatnonzero(public.part == "dev")
    taught = set(public.key[public.part != "dev"].tolist()) | set(authored.key[authored.part != "dev"].tolist())
    abuse = [BINARY.index(a) for a in ABUSE]

    suite.add("abuse", "Abuse, public sets",
              "Forum posts, tweets, talk pages and news comments labelled by their collectors, at most 1,000 rows of most "
              "sources. The mix and the share of abuse are the collectors', not those of a consultation. `identity` says "
              "which groups the words of a comment name.",
              (labelled(public, i, ABUSE, identity=identities(public.text[i])) for i in dev if public.gold[i, abuse].any()),
              "none", groups=["identity"], labels=ABUSE)
    suite.add("perspective", "Closeness to Perspective",
              "Talk page comments with scores that Perspective published, the half set aside for reporting; the other half "
              "taught the models. A score is a model's and no person's judgement; 0.5 and above counts as yes.",
              perspective(data, taught), "none")
    suite.add("spans", "Toxic spans",
              "News comments, all toxic, in which people marked the words that make them so (SemEval-2021 task 5). "
              "Characters, averaged over comments. Whole text marks everything; word list marks the words of two public lists.",
              spans(data, taught), "none", systems=[
                  ("Whole text", lambda rows: [{"id": r["id"], "spans": [[0, len(r["text"])]]} for r in rows]),
                  ("Word list", lambda rows: [{"id": r["id"], "spans": words.spans(r["text"])}
                                              for words in [WordList(data)] for r in rows])])
    suite.add("spam", "Spam, public sets",
              "Text messages, video comments and group chats: older and of other kinds than spam in consultations.",
              (labelled(public, i, ["spam"]) for i in dev if public.gold[i, BINARY.index("spam")]), "none", labels=["spam"])
    suite.add("sentiment", "General mood",
              "Tweets, forum posts, reviews and patient feedback, at most 1,000 rows of a source. Some sources have no "
              "neutral class; a mean over classes is over those that a source has.",
              (labelled(public, i, [], [("polarity", "sentiment")]) for i in dev if public.cls["polarity"][i] >= 0),
              "none", classes=[("polarity", "sentiment")], systems=[("VADER", vader)])
    suite.add("calm", "Consultation statements",
              "Statements of public consultations that their organisers let stand: none should be held or rejected.",
              ({"id": str(public.key[i])[:16], "text": public.text[i], "source": "polis", "verdict": "accept"}
               for i in dev if public.source[i] == "polis"), "none")

    # Whole files that are never trained on; the dev part of the others goes by hash.
    apart = sorted((MODELS / "data/heldout").glob("*.jsonl")) + [MODELS / "data/next/themes-heldout.jsonl"]
    fresh = [(f"{path.parent.name}/{path.stem}", json.loads(line)) for path in apart if path.exists()
             for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    fresh_keys = {splits.key(r["text"]) for _, r in fresh}
    heads = [("attitude", "sentiment"), ("stance", "stance"), ("tone", "tone")]
    labels = ABUSE + ["spam", "safeguarding", "off_topic"]

    def own(i):
        row = labelled(authored, i, labels, heads, moderation=str(authored.moderation[i]))
        if authored.gold[i, BINARY.index(THEMES[0])]:
            row["themes"] = [t for t in THEMES if authored.y[i, BINARY.index(t)] > 0.5]
        return row
    suite.add("mentoring", "Mentoring comments",
              "The dev part of the comments written for this project. Their authors wrote the training comments too, so "
              "figures on real answers will be lower.",
              (own(i) for i in np.flatnonzero(authored.part == "dev")
               if authored.key[i] not in fresh_keys and "template" not in str(authored.source[i])),
              "mentoring", groups=["moderation"], labels=labels, classes=heads, themes=True, systems=[("VADER", vader)])
    suite.add("mentoring-fresh", "Mentoring comments kept apart",
              "Comments written from the codebook alone, in files that are never trained on. Those of `heldout` are by "
              "authors who saw no training comment; the author of `next/themes-heldout` wrote some, so it is kinder. One "
              "author wrote and coded each file.",
              ({"id": splits.key(r["text"])[:16], "text": r["text"], "source": source, "themes": r["themes"],
                "moderation": r["moderation"],
                **{a: whole(v) for a, v in (r.get("attributes") or {}).items() if v is not None},
                **{m: int(r["moderation"] == m) for m in ("spam", "safeguarding", "off_topic")},
                **({} if r["moderation"] == "spam" else {k: r[k] for k in ("stance", "sentiment", "tone")})}
               for source, r in fresh if splits.key(r["text"]) not in taught),
              "mentoring", groups=["moderation"], labels=labels, classes=heads, themes=True, systems=[("VADER", vader)])
    suite.finish()
