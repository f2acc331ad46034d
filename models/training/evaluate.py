"""Measures the shipped heads and the TF-IDF baseline on the dev split, with paired bootstrap intervals."""

import numpy as np

import heads
import metrics as m
from common import ABUSE, BINARY, CLASSES, CODEBOOK_HEADS, SEED, THEMES
from thresholds import CONSULTATION, legitimate

# Measured by `moothall codebook train`, which makes their heads.
CODEBOOK_LABELS = {"off_topic", *THEMES}


def measure(f, p, classes, base, base_classes, points, log=print):
    dev = (f.part == "dev") & f.has
    rows = []

    def add(head, what, measure_, ours, theirs, y, **kw):
        if len(y) < 20 or np.isnan(theirs).any():
            return
        r = m.paired(measure_, ours, theirs, y, SEED, **kw)
        r.update(head=head, what=what, positives=int((y > 0.5).sum()) if y.ndim == 1 and set(np.unique(y)) <= {0, 1} else None)
        rows.append(r)
        log(f"{head} {what}: {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}] tf-idf {r['baseline']:.3f}", flush=True)

    def gold(label, extra=True):
        j = BINARY.index(label)
        k = dev & f.gold[:, j] & extra
        return k, j, (f.y[k, j] > 0.5).astype(float)

    for label in ABUSE:
        k, j, y = gold(label)
        if 3 <= y.sum() < len(y):
            add("abuse", f"{label} AUC", m.auc, p[k, j], base[k, j], y)
    for name, extra in (("wiki", np.isin(f.source, ["jigsaw_wiki", "wiki_cat_large"])), ("authored", f.authored)):
        k, j, y = gold("toxic", extra)
        if 3 <= y.sum() < len(y):
            add("abuse", f"toxic AUC, {name} only", m.auc, p[k, j], base[k, j], y)
    k, j, y = gold("spam")
    if y.sum() and not np.isnan(base[k, j]).any():
        for what, fn, a, b in (("AUC", m.auc, p[k, j], base[k, j]),
                               ("F1 at 0.5", m.f1, (p[k, j] >= .5) * 1., (base[k, j] >= .5) * 1.),
                               ("false-positive rate at 0.5 (lower is better)", m.false_positive_rate,
                                (p[k, j] >= .5) * 1., (base[k, j] >= .5) * 1.)):
            add("spam", what, fn, a, b, y)
    k, j, y = gold("spam", f.authored)
    if y.sum() and not np.isnan(base[k, j]).any():
        add("spam", "AUC, authored only", m.auc, p[k, j], base[k, j], y)
        add("spam", "F1 at 0.5, authored only", m.f1, (p[k, j] >= .5) * 1., (base[k, j] >= .5) * 1., y)
    k, j, y = gold("safeguarding")
    if y.sum():
        add("safeguarding", "AUC", m.auc, p[k, j], base[k, j], y)
        add("safeguarding", "average precision", m.average_precision, p[k, j], base[k, j], y)
        add("safeguarding", "recall at 2 % false positives", m.recall_at_fpr, p[k, j], base[k, j], y)
    k = dev & (f.cls["polarity"] >= 0)
    y = f.cls["polarity"][k]
    if len(y) >= 20 and not np.isnan(base_classes["polarity"][k]).any():
        ours, theirs = classes["polarity"][k].argmax(1), base_classes["polarity"][k].argmax(1)
        add("polarity", "macro-recall, pooled", m.macro_recall, ours, theirs, y)
        for s in np.unique(f.source[k]):
            q = f.source[k] == s
            add("polarity", f"macro-recall, {s}", m.macro_recall, ours[q], theirs[q], y[q])
    return rows


def calibration(f, p, classes):
    dev = (f.part == "dev") & f.has
    out = []
    for j, label in enumerate(BINARY):
        if label in CODEBOOK_LABELS:
            continue
        k = dev & f.gold[:, j]
        if k.sum() >= 20:
            y = (f.y[k, j] > 0.5).astype(float)
            out.append((label, m.ece(p[k, j], y), int(k.sum()), int(y.sum())))
    for c in CLASSES:
        k = dev & (f.cls[c] >= 0)
        if c not in CODEBOOK_HEADS and k.sum() >= 20:
            q = classes[c][k]
            out.append((c, m.ece(q.max(1), (q.argmax(1) == f.cls[c][k]).astype(float)), int(k.sum()), None))
    return out


def operation(f, p, points):
    """What the operating points do on dev: legitimate held and rejected, attacks and disclosures caught."""
    dev = (f.part == "dev") & f.has
    labels = [label for label in points if "hold" in points[label]]
    held, rejected = np.zeros(len(f), bool), np.zeros(len(f), bool)
    for label in labels:
        j = BINARY.index(label)
        held |= p[:, j] >= points[label]["hold"]
        if "reject" in points[label]:
            rejected |= p[:, j] >= points[label]["reject"]
    groups = [("authored legitimate comments", dev & legitimate(f)),
              ("authored legitimate comments that swear", dev & legitimate(f) & (f.y[:, BINARY.index("profanity")] == 1)),
              ("public consultation statements", dev & np.isin(f.source, CONSULTATION)),
              ("Wikipedia talk, not toxic", dev & np.isin(f.source, ["jigsaw_wiki", "wiki_cat_large"]) & (f.y[:, 0] == 0)),
              ("authored abuse", dev & (f.moderation == "abuse")), ("authored spam", dev & (f.moderation == "spam")),
              ("authored disclosures", dev & (f.moderation == "safeguarding"))]
    s = p[:, BINARY.index("safeguarding")] >= points["safeguarding"]["escalate"]
    return [(name, int(k.sum()), *(float(v[k].mean()) if k.any() else float("nan") for v in (held, rejected, s)))
            for name, k in groups]


def report(rows, calibrated, operated, points, note):
    def number(v):
        return f"{v:.3f}"
    lines = ["# Measured on the dev split", "",
             "Written by `python models/training/train.py evaluate`. Dev was never trained on; the one use outside "
             "measuring is that a reject point must clear the legitimate authored comments of every split "
             "(`training/costs.toml`). Intervals: 95 %, 1,000 bootstrap resamples; the difference is paired. "
             "Baseline: TF-IDF of words 1-2 and characters 3-5 with logistic regression on every train row of the split (the encoder saw fewer, see training/README.md). "
             "These are our own dev figures, not the product's bars, which need data that nobody here has seen.", "",
             note, "",
             "| head | measure | rows (positive) | ours | TF-IDF | difference | beats it |",
             "| --- | --- | ---: | --- | --- | --- | --- |"]
    for r in rows:
        n = f"{r['n']:,}" + (f" ({r['positives']:,})" if r["positives"] is not None else "")
        lower = "lower is better" in r["what"]
        won = r["difference_high"] < 0 if lower else r["beats_baseline"]
        lost = r["difference_low"] > 0 if lower else r["difference_high"] < 0
        lines.append(f"| {r['head']} | {r['what']} | {n} | {number(r['value'])} [{number(r['low'])}, {number(r['high'])}] | "
                     f"{number(r['baseline'])} [{number(r['baseline_low'])}, {number(r['baseline_high'])}] | "
                     f"{r['difference']:+.3f} [{r['difference_low']:+.3f}, {r['difference_high']:+.3f}] | "
                     f"{'yes' if won else 'worse' if lost else 'not shown'} |")
    lines += ["", "## Calibration (expected calibration error, ten bins)", "", "| probability | ECE | rows (positive) |",
              "| --- | ---: | ---: |"]
    lines += [f"| {name} | {value:.3f} | {n:,}{f' ({pos:,})' if pos is not None else ''} |" for name, value, n, pos in calibrated]
    lines += ["", "## Operating points, and what they do on dev", "", "| label | points |", "| --- | --- |"]
    lines += [f"| {label} | {', '.join(f'{k} {v:.4f}' for k, v in values.items())} |" for label, values in points.items() if "tag" not in values]
    lines += ["", "| comments | rows | held or stricter | rejected | escalated as safeguarding |", "| --- | ---: | ---: | ---: | ---: |"]
    lines += [f"| {name} | {n:,} | {held:.1%} | {rej:.1%} | {esc:.1%} |" for name, n, held, rej, esc in operated if n]
    return "\n".join(lines) + "\n"
