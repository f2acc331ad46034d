"""Linear heads on the pooled vector: fit, choice, calibration."""

import numpy as np
import torch
import torch.nn.functional as F

from common import ABUSE, BINARY, CLASSES, MULTILABEL, THEMES

STRENGTHS = [1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1]
FEW = 30   # with fewer gold positives than this, weak labels help to calibrate


def _solve(loss, params, steps=120):
    opt = torch.optim.LBFGS(params, max_iter=steps, history_size=20, tolerance_grad=1e-6,
                            line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value
    opt.step(closure)


def standard(x):
    mean, std = x.mean(0), x.std(0) + 1e-6
    return mean, std


def fit_binary(x, y, w, strength, steps=120):
    """All labels at once; y NaN is unknown. Returns weights [labels, dims] and bias for raw x."""
    mean, std = standard(x)
    z = torch.from_numpy((x - mean) / std)
    known = ~np.isnan(y)
    target = torch.from_numpy(np.nan_to_num(y))
    weight = torch.from_numpy((w * known).astype(np.float32))
    total = weight.sum(0).clamp(min=1e-6)
    W = torch.zeros(y.shape[1], x.shape[1], requires_grad=True)
    b = torch.zeros(y.shape[1], requires_grad=True)

    def loss():
        each = F.binary_cross_entropy_with_logits(z @ W.T + b, target, weight=weight, reduction="none")
        return (each.sum(0) / total).sum() + strength * (W ** 2).sum()
    _solve(loss, [W, b], steps)
    W, b = W.detach().numpy(), b.detach().numpy()
    raw = W / std
    return raw.astype(np.float32), (b - raw @ mean).astype(np.float32)


def fit_classes(x, y, w, n, strength):
    mean, std = standard(x)
    z, target, weight = torch.from_numpy((x - mean) / std), torch.from_numpy(y), torch.from_numpy(w)
    W = torch.zeros(n, x.shape[1], requires_grad=True)
    b = torch.zeros(n, requires_grad=True)

    def loss():
        each = F.cross_entropy(z @ W.T + b, target, reduction="none") * weight
        return each.sum() / weight.sum() + strength * (W ** 2).sum()
    _solve(loss, [W, b])
    W, b = W.detach().numpy(), b.detach().numpy()
    raw = W / std
    return raw.astype(np.float32), (b - raw @ mean).astype(np.float32)


def sigmoid(z):
    return 1 / (1 + np.exp(-np.clip(z, -40, 40)))


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def log_loss(z, y, w):
    each = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return float((each * w).sum() / max(w.sum(), 1e-9))


def platt(z, y, w):
    """p = sigmoid(a z + b), with a weak pull of a to 1 for labels with few rows."""
    z, y, w = (torch.tensor(v, dtype=torch.float64) for v in (z, y, w))
    a = torch.ones(1, dtype=torch.float64, requires_grad=True)
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)

    def loss():
        each = F.binary_cross_entropy_with_logits(a * z + b, y, reduction="none")
        return ((each * w).sum() + 0.5 * (a - 1).pow(2).sum() + 0.02 * b.pow(2).sum()) / w.sum()
    _solve(loss, [a, b])
    return [max(float(a.detach()), 0.05), float(b.detach())]


def temperature(z, y):
    z, y = torch.tensor(z, dtype=torch.float64), torch.tensor(y)
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    _solve(lambda: F.cross_entropy(z / t.exp(), y) + 0.5 / len(y) * t.pow(2).sum(), [t])
    return float(t.detach().exp())


def calibration_rows(f, label):
    """Rows and weights on which a label is chosen and calibrated: gold, plus weak ones where gold is scarce."""
    j = BINARY.index(label)
    cal = (f.part == "calibration") & f.has
    gold = cal & f.gold[:, j]
    if (f.y[gold, j] > 0.5).sum() >= FEW:
        return gold, np.ones(gold.sum())
    known = cal & ~np.isnan(f.y[:, j])
    return known, np.where(f.gold[known, j], 1.0, f.w[known, j])


def authored_weight(f, factor):
    return np.where(f.authored, factor, 1.0).astype(np.float32)


def fit_all(f, x, joint=None, features=None, names=(), log=print):
    """f: rows; x: pooled vectors; joint: heads of the fine-tuning, a candidate for each label."""
    train = (f.part == "train") & f.has
    out = {name: {"labels": labels, "kind": "multilabel"} for name, labels in MULTILABEL.items()}
    best = {}

    def consider(label, z, weights, bias, what):
        rows, w = calibration_rows(f, label)
        j = BINARY.index(label)
        if not rows.any() or len(np.unique(f.y[rows, j] > 0.5)) < 2:
            score = 0.0
        else:
            a, b = platt(z[rows], f.y[rows, j], w)
            score = log_loss(a * z[rows] + b, f.y[rows, j], w)
        if label not in best or score < best[label][0] - 1e-4:
            best[label] = (score, weights, bias, what)

    boost = {"toxic": 3, "insult": 3, "threat": 3, "identity_attack": 3, "sexual": 3, "severe": 3,
             "profanity": 3, "spam": 3}
    w = f.w * np.stack([authored_weight(f, boost.get(label, 1)) for label in BINARY], 1)
    large = ABUSE + ["spam"]
    for group, strengths in ((large, STRENGTHS[1:6:2]), (["safeguarding", "off_topic"], STRENGTHS), (THEMES, STRENGTHS)):
        js = [BINARY.index(label) for label in group]
        rows = np.flatnonzero(train & (~np.isnan(f.y[:, js])).any(1))
        for strength in strengths:
            W, b = fit_binary(x[rows], f.y[rows][:, js], w[rows][:, js], strength, steps=60 if group is large else 120)
            z = x @ W.T + b
            for k, label in enumerate(group):
                consider(label, z[:, k], W[k], b[k], f"refit {strength:g}")
        log(f"fitted {', '.join(group)} on {len(rows)} rows", flush=True)
    if joint:
        z = x @ joint["binary.weight"].T + joint["binary.bias"]
        for j, label in enumerate(BINARY):
            consider(label, z[:, j], joint["binary.weight"][j], joint["binary.bias"][j], "joint")
    for name, labels in MULTILABEL.items():
        head = out[name]
        head["weight"] = np.stack([best[label][1] for label in labels])
        head["bias"] = np.array([best[label][2] for label in labels], np.float32)
        head["choice"] = {label: best[label][3] for label in labels}
        head["features"] = []
    if features is not None:
        spam_with_features(f, x, features, list(names), out["spam"])
    for name, labels in MULTILABEL.items():
        head = out[name]
        z = logits(head, x, features)
        head["calibration"] = np.zeros((len(labels), 2), np.float32)
        for k, label in enumerate(labels):
            rows, weight = calibration_rows(f, label)
            y = f.y[rows, BINARY.index(label)]
            ok = rows.any() and len(np.unique(y > 0.5)) == 2
            head["calibration"][k] = platt(z[rows, k], y, weight) if ok else [1.0, 0.0]
            log(f"{name}.{label}: {head['choice'][label]}, platt {head['calibration'][k].round(3).tolist()}, "
                f"{int(rows.sum())} calibration rows", flush=True)
    for name, labels in CLASSES.items():
        y = f.cls[name]
        t, cal = train & (y >= 0), (f.part == "calibration") & f.has & (y >= 0)
        head = {"labels": labels, "kind": "multiclass", "features": [], "temperature": 1.0}
        if len(np.unique(y[t])) < 2:
            head.update(weight=np.zeros((len(labels), x.shape[1]), np.float32),
                        bias=np.zeros(len(labels), np.float32), choice="untrained: no rows yet")
            out[name] = head
            continue
        weight = class_weights(f.source[t], y[t], len(labels), balance_source=name == "polarity")
        options = []
        for strength in (STRENGTHS[1:5:2] if name == "polarity" else STRENGTHS):
            W, b = fit_classes(x[t], y[t], weight, len(labels), strength)
            options.append((W, b, f"refit {strength:g}"))
        if joint:
            options.append((joint[f"{name}.weight"], joint[f"{name}.bias"], "joint"))
        chosen = None
        for W, b, what in options:
            z = x[cal] @ W.T + b
            temp = temperature(z, y[cal])
            p = softmax(z / temp)
            score = float(-np.log(p[np.arange(len(p)), y[cal]] + 1e-9).mean())
            if chosen is None or score < chosen[0] - 1e-4:
                chosen = (score, W, b, temp, what)
        head.update(weight=chosen[1], bias=chosen[2], temperature=chosen[3], choice=chosen[4])
        log(f"{name}: {chosen[4]}, temperature {chosen[3]:.3f}, {int(cal.sum())} calibration rows", flush=True)
        out[name] = head
    return out


def class_weights(source, y, n, balance_source):
    """Milder than inverse frequency: rare classes count more, and each source of polarity counts alike."""
    count = np.maximum(np.bincount(y, minlength=n), 1)
    w = (count.mean() / count[y]) ** 0.5
    if balance_source:
        names, inverse, sizes = np.unique(source, return_inverse=True, return_counts=True)
        w = w * ((sizes.mean() / sizes[inverse]) ** 0.5)
    return np.clip(w, 0.2, 5).astype(np.float32)


def spam_with_features(f, x, features, names, head):
    """The spam head with the product's surface features beside the pooled vector."""
    j = BINARY.index("spam")
    t = (f.part == "train") & f.has & f.has_features & ~np.isnan(f.y[:, j])
    mean, std = features[t].mean(0), features[t].std(0)
    std[std < 1e-6] = 1.0
    both = np.concatenate([x, (features - mean) / std], 1).astype(np.float32)
    rows, w = calibration_rows(f, "spam")   # people's labels, which all have features
    weight = (f.w[:, j] * authored_weight(f, 3))[:, None]
    best = None
    for strength in STRENGTHS[1:6]:
        W, b = fit_binary(both[t], f.y[t, j:j + 1], weight[t], strength, steps=80)
        z = (both @ W.T + b)[:, 0]
        a, c = platt(z[rows], f.y[rows, j], w)
        score = log_loss(a * z[rows] + c, f.y[rows, j], w)
        if best is None or score < best[0]:
            best = (score, W, b, strength)
    head.update(weight=best[1], bias=best[2], features=names, feature_mean=mean.astype(np.float32),
                feature_std=std.astype(np.float32), choice={"spam": f"refit with features {best[3]:g}"})


def logits(head, x, features=None):
    W = head["weight"]
    z = x @ W[:, :x.shape[1]].T + head["bias"]
    if head["features"]:
        z = z + ((features - head["feature_mean"]) / head["feature_std"]) @ W[:, x.shape[1]:].T
    return z


def probabilities(head, x, features=None):
    z = logits(head, x, features)
    if head["kind"] == "multiclass":
        return softmax(z / head["temperature"])
    return sigmoid(z * head["calibration"][:, 0] + head["calibration"][:, 1])
