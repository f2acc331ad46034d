"""Operating points from stated costs (costs.toml). Probabilities in, numbers out; no hand-set values."""

import tomllib
from pathlib import Path

import numpy as np

from common import ABUSE, BINARY, SEED, THEMES

CONSULTATION = ("polis", "nhs_fft_v6", "nhs_fft_phase1", "themefinder_synthetic")


def logit(p):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def legitimate(f):
    """Comments that must stay: authored ones that are neither abuse nor spam."""
    return f.authored & f.has & np.isin(f.moderation, ["ok", "off_topic"])


def precision_point(p, y, prevalence, wanted):
    """The lowest p from which precision, at the stated prevalence, is at least `wanted`."""
    if y.sum() < 5:
        return 1.0
    order = np.argsort(-p)
    tpr = np.cumsum(y[order]) / y.sum()
    fpr = np.cumsum(1 - y[order]) / max((1 - y).sum(), 1)
    precision = prevalence * tpr / np.maximum(prevalence * tpr + (1 - prevalence) * fpr, 1e-12)
    ok = np.flatnonzero(precision >= wanted)
    return float(p[order][ok[-1]]) if len(ok) else 1.0


def cost_point(p, y, miss, prevalence):
    if y.sum() < 5:
        return 0.5
    order = np.argsort(-p)
    tpr = np.cumsum(y[order]) / y.sum()
    fpr = np.cumsum(1 - y[order]) / max((1 - y).sum(), 1)
    return float(p[order][np.argmin(miss * prevalence * (1 - tpr) + (1 - prevalence) * fpr)])


def f1_point(p, y, tags, seed):
    rng = np.random.default_rng(seed)
    grid = np.arange(tags["lowest"], tags["highest"] + 0.001, 0.02)
    best = []
    for _ in range(tags["resamples"]):
        c = np.bincount(rng.integers(0, len(y), len(y)), minlength=len(y))
        score = [2 * (c * y * (p >= t)).sum() / max((c * y).sum() + (c * (p >= t)).sum(), 1e-9) for t in grid]
        best.append(grid[int(np.argmax(score))])
    return float(np.median(best))


def derive(f, p, log=print):
    """p: calibrated probabilities [rows, labels of BINARY]."""
    costs = tomllib.loads((Path(__file__).parent / "costs.toml").read_text())
    cal = (f.part == "calibration") & f.has
    legit_all = (legitimate(f) | (f.authored & f.has & (f.moderation == "safeguarding"))) & (f.part != "dev")
    # Calibration rows only: what the encoder was trained on scores too well.
    legit = (legitimate(f) | (f.has & np.isin(f.source, CONSULTATION))) & cal
    points, labels = {}, [a for a in ABUSE if a != "profanity"] + ["spam"]
    for label in labels:
        j = BINARY.index(label)
        rows = cal & f.gold[:, j]
        if (f.y[rows, j] > 0.5).sum() < 30:
            rows = cal & ~np.isnan(f.y[:, j])
        y = (f.y[rows, j] > 0.5).astype(float)
        h = costs["hold"]
        hold = max(h["floor"], cost_point(p[rows, j], y, h["miss"], h["prevalence"]))
        points[label] = {"hold": hold}
        r = costs["reject"]
        top = float(logit(p[legit_all, j]).max()) + r["margin_logit"] if legit_all.any() else 0.0
        right = precision_point(p[rows, j], y, h["prevalence"], r["precision"])
        points[label]["reject"] = float(min(r["ceiling"], max(r["floor"], sigmoid(top), min(right, r["ceiling"]))))
    step = 0.0
    while legit.any():
        at = {label: sigmoid(logit(points[label]["hold"]) + step) for label in labels}
        held = np.zeros(len(f), bool)
        for label in labels:
            held |= p[:, BINARY.index(label)] >= at[label]
        own = legitimate(f) & cal
        worst = max(held[legit].mean(), held[own].mean() if own.any() else 0)
        if worst <= costs["hold"]["budget"] or step > 8:
            break
        step += 0.05
    for label in labels:
        points[label]["hold"] = float(at[label])
        points[label]["reject"] = float(max(points[label]["reject"], points[label]["hold"]))
    # Legitimate comments may well swear: profanity alone holds next to none of them and never rejects.
    j = BINARY.index("profanity")
    own = legitimate(f) & cal
    if own.any():
        points["profanity"] = {"hold": float(np.quantile(p[own, j], 1 - costs["hold"]["profanity_budget"]))}
    else:
        points["profanity"] = {"hold": 0.99}
    log(f"hold raised by {step:.2f} logits; legitimate held {worst:.4f}", flush=True)
    j = BINARY.index("safeguarding")
    disclosed = cal & f.gold[:, j] & (f.y[:, j] > 0.5)
    if disclosed.any():
        e = costs["escalate"]
        need = float(np.quantile(p[disclosed, j], 1 - e["recall"], method="lower"))
        own = legitimate(f) & cal
        free = float(np.quantile(p[own, j], 1 - e["load"])) if own.any() else need
        # A list that nobody can read hides disclosures as surely as a missed one does.
        points["safeguarding"] = {"escalate": max(need, free)}
    else:
        points["safeguarding"] = {"escalate": 0.5}
    for label in THEMES + ["off_topic"]:
        j = BINARY.index(label)
        rows = cal & f.authored & f.gold[:, j]
        y = (f.y[rows, j] > 0.5).astype(float)
        points[label] = {"tag": f1_point(p[rows, j], y, costs["tags"], SEED + j) if y.sum() >= 5 else 0.5}
    return {label: {k: round(v, 4) for k, v in values.items()} for label, values in points.items()}
