"""TF-IDF (words 1-2, characters 3-5) with logistic regression, on the same train rows as the encoder's heads."""

import warnings

import numpy as np
from scipy.sparse import hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from common import BINARY, CLASSES, SEED


class Tfidf:
    def __init__(self):
        self.words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, dtype=np.float32,
                                     max_features=300_000)
        self.chars = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True,
                                     dtype=np.float32, max_features=300_000)

    def fit(self, texts):
        self.words.fit(texts)
        self.chars.fit(texts)
        return self

    def transform(self, texts):
        return hstack([self.words.transform(texts), self.chars.transform(texts)]).tocsr()


def logistic(C, classes=2):
    return LogisticRegression(C=C, solver="liblinear" if classes == 2 else "lbfgs", max_iter=60 if classes > 2 else 100,
                              class_weight="balanced" if classes > 2 else None, random_state=SEED)


def fit(f, log=print):
    """Probabilities on every calibration and dev row, for each label and class head."""
    warnings.simplefilter("ignore", ConvergenceWarning)
    texts = np.array([t.lower() for t in f.judged], dtype=object)
    train, held = f.part == "train", f.part != "train"
    binary = np.full((len(f), len(BINARY)), np.nan, np.float32)
    classes = {c: np.full((len(f), len(v)), np.nan, np.float32) for c, v in CLASSES.items()}
    held_ids = np.flatnonzero(held)
    for kind in ("public", "authored"):
        rows = np.flatnonzero(train & (f.authored if kind == "authored" else np.ones(len(f), bool)))
        if not len(rows):
            continue
        vector = Tfidf().fit(texts[rows])
        x = vector.transform(texts[rows])
        xh = vector.transform(texts[held_ids])
        log(f"baseline {kind}: {x.shape}", flush=True)
        wanted = BINARY[:8] if kind == "public" else BINARY[8:]
        for label in wanted:
            j = BINARY.index(label)
            known = ~np.isnan(f.y[rows, j])
            y = f.y[rows, j][known]
            target, w = (y > 0.5).astype(int), f.w[rows, j][known]
            if len(np.unique(target)) < 2:
                continue
            m = logistic(4.0).fit(x[known], target, sample_weight=w * np.where(f.authored[rows][known], 3, 1)
                                  if kind == "public" else None)
            binary[held_ids, j] = m.predict_proba(xh)[:, 1]
            log(f"baseline {label}: {int(known.sum())} rows", flush=True)
        for c in (["polarity"] if kind == "public" else ["stance", "attitude", "tone"]):
            y = f.cls[c][rows]
            known = y >= 0
            if len(np.unique(y[known])) < 2:
                continue
            m = logistic(2.0, 3).fit(x[known], y[known])
            p = np.zeros((len(held_ids), len(CLASSES[c])), np.float32)
            p[:, m.classes_] = m.predict_proba(xh)
            classes[c][held_ids] = p
            log(f"baseline {c}: {int(known.sum())} rows", flush=True)
    return binary, classes
