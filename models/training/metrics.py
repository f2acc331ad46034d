"""Measures that take resampling counts, so that every figure gets a bootstrap interval in one way."""

import numpy as np

RESAMPLES = 1000


_ORDERS = {}


def _order(score, down):
    """The order of a score, kept between resamples of the same array."""
    at = (id(score), down)
    if at not in _ORDERS or _ORDERS[at][0] is not score:
        if len(_ORDERS) > 8:
            _ORDERS.clear()
        _ORDERS[at] = (score, np.argsort(-score if down else score, kind="stable"))
    return _ORDERS[at][1]


def auc(score, y, c=None):
    c = np.ones(len(y)) if c is None else c
    order = _order(score, False)
    s, pos, neg = score[order], (c * y)[order], (c * (1 - y))[order]
    group = np.concatenate([[0], np.cumsum(s[1:] != s[:-1])])
    p, n = np.bincount(group, pos), np.bincount(group, neg)
    total = p.sum() * n.sum()
    return float((p * (np.cumsum(n) - n / 2)).sum() / total) if total > 0 else float("nan")


def average_precision(score, y, c=None):
    c = np.ones(len(y)) if c is None else c
    order = _order(score, True)
    tp, seen = np.cumsum((c * y)[order]), np.cumsum(c[order])
    gain = (c * y)[order]
    return float((gain * tp / np.maximum(seen, 1e-9)).sum() / max(tp[-1], 1e-9))


def recall_at_fpr(score, y, c=None, fpr=0.02):
    c = np.ones(len(y)) if c is None else c
    order = _order(score, True)
    fp, tp = np.cumsum((c * (1 - y))[order]), np.cumsum((c * y)[order])
    ok = fp <= fpr * max(fp[-1], 1e-9)
    return float(tp[ok][-1] / max(tp[-1], 1e-9)) if ok.any() else 0.0


def f1(hit, y, c=None):
    c = np.ones(len(y)) if c is None else c
    tp, fp, fn = (c * hit * y).sum(), (c * hit * (1 - y)).sum(), (c * (1 - hit) * y).sum()
    return float(2 * tp / max(2 * tp + fp + fn, 1e-9))


def false_positive_rate(hit, y, c=None):
    c = np.ones(len(y)) if c is None else c
    return float((c * hit * (1 - y)).sum() / max((c * (1 - y)).sum(), 1e-9))


def micro_f1(hit, y, c=None):
    c = np.ones(len(y)) if c is None else c
    c = c[:, None]
    tp, fp, fn = (c * hit * y).sum(), (c * hit * (1 - y)).sum(), (c * (1 - hit) * y).sum()
    return float(2 * tp / max(2 * tp + fp + fn, 1e-9))


def macro_f1_labels(hit, y, c=None):
    return float(np.mean([f1(hit[:, j], y[:, j], c) for j in range(y.shape[1])]))


def macro_recall(pred, y, c=None):
    c = np.ones(len(y)) if c is None else c
    return float(np.mean([(c * ((pred == k) & (y == k))).sum() / max((c * (y == k)).sum(), 1e-9)
                          for k in np.unique(y)]))


def macro_f1_classes(pred, y, c=None):
    return float(np.mean([f1((pred == k).astype(float), (y == k).astype(float), c) for k in np.unique(y)]))


def accuracy(pred, y, c=None):
    c = np.ones(len(y)) if c is None else c
    return float((c * (pred == y)).sum() / c.sum())


def paired(measure, ours, base, y, seed, resamples=RESAMPLES, **kw):
    """Figure and 95 % interval for both, and for the difference on the same resamples."""
    n = len(y)
    rng = np.random.default_rng(seed)
    a, b = [], []
    for _ in range(resamples):
        c = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        a.append(measure(ours, y, c, **kw))
        b.append(measure(base, y, c, **kw))
    a, b = np.array(a), np.array(b)

    def spread(v):
        v = v[~np.isnan(v)]
        return [float(np.percentile(v, 2.5)), float(np.percentile(v, 97.5))] if len(v) else [float("nan")] * 2
    low, high = spread(a)
    blow, bhigh = spread(b)
    dlow, dhigh = spread(a - b)
    value, bvalue = measure(ours, y, **kw), measure(base, y, **kw)
    return {"value": value, "low": low, "high": high, "n": n, "baseline": bvalue, "baseline_low": blow,
            "baseline_high": bhigh, "difference": value - bvalue, "difference_low": dlow,
            "difference_high": dhigh, "beats_baseline": bool(dlow > 0)}


def ece(p, y, bins=10):
    """Expected calibration error over equal-width bins of the predicted probability."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    total = 0.0
    for b in range(bins):
        m = which == b
        if m.any():
            total += m.mean() * abs(p[m].mean() - y[m].mean())
    return float(total)
