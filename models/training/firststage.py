"""The first stage: a linear model over hashed n-grams and surface features that settles plain spam.

It learns from the product's own judgement (the teacher), not from labels: `spam` is "the product rejects this as
spam and sees nothing else in it", `harm` is "the product sees anything that could be a disclosure or abuse".
Both operating points come from rows that a fit has not seen (four folds by hash over train and calibration rows);
dev rows only measure. Writes models/first_stage.safetensors, the manifest's [first_stage] and models/FIRST_STAGE.md.
"""

import json
import pickle
import subprocess
import tomllib

import numpy as np
from safetensors.numpy import save
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression

import judging
from common import BINARY, MODELS, MULTILABEL, SEED, sha256_file, write_atomic

BUCKETS = 1 << 15
FOLDS = 4
TRAIN_ROWS = 4000      # of rows with no spam about them; those with a person's spam label all count
OTHER_ROWS = 2000      # of calibration and of dev, likewise
AGREEMENT = 0.98       # of what is settled, rejected as spam by the product too; none of the rest may be legitimate
WARY = 0.5             # a half of the way to a person's desk is harm enough to leave a text to the encoder
HARM_MISSED = 0.01     # share of texts with harm in them that the harm point may let through, before the spam point
STRENGTHS = [1.0, 8.0]


def sample(f):
    """Rows to teach and to measure with: all with a person's spam label or a person's word on disclosures, some others."""
    rng = np.random.default_rng(SEED)
    spam, safe = BINARY.index("spam"), BINARY.index("safeguarding")
    known = (f.gold[:, spam] & (f.y[:, spam] > 0.5)) | f.gold[:, safe]
    rows = []
    for part, count in (("train", TRAIN_ROWS), ("calibration", OTHER_ROWS), ("dev", OTHER_ROWS)):
        own = np.flatnonzero(f.part == part)
        others = rng.permutation(own[~known[own]])[:count]
        rows += [own[known[own]], others]
    return np.sort(np.concatenate(rows))


def taught(args, f, rows):
    """The product's logits, from the work folder where the same heads have judged the same rows before."""
    manifest = tomllib.loads((MODELS / "manifest.toml").read_text(encoding="utf-8"))
    name = manifest["heads"]["weights_sha256"][:8] + manifest["encoder"]["weights_sha256"][:8]
    path = args.work / f"firststage-{name}.pkl"
    found = pickle.loads(path.read_bytes()) if path.exists() else {}
    missing = [i for i in rows if f.key[i] not in found]
    for start in range(0, len(missing), 2000):
        some = missing[start:start + 2000]
        judged = judging.logits(args.moothall, MODELS, [f.text[i] for i in some], args.threads)
        found.update((f.key[i], heads) for i, heads in zip(some, judged))
        write_atomic(path, pickle.dumps(found))
        print(f"teacher: {start + len(some)} of {len(missing)} rows", flush=True)
    return [found[f.key[i]] for i in rows], manifest


def probabilities(heads, fitted):
    """Calibrated probabilities of the general heads, by label; a blank text has none."""
    out = np.full((len(heads), len(BINARY)), np.nan)
    for name in ("abuse", "spam", "safeguarding"):
        js = [BINARY.index(label) for label in MULTILABEL[name]]
        c = fitted[f"{name}.calibration"]
        for i, row in enumerate(heads):
            if row:
                out[i, js] = 1 / (1 + np.exp(-(np.array(row[name]) * c[:, 0] + c[:, 1])))
    return out


def prepared(binary, texts):
    """Buckets and surface features as the product has them."""
    lines = "".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(texts))
    run = subprocess.run([str(binary), "prepare", "--grams"], input=lines.encode("utf-8"), stdout=subprocess.PIPE, check=True)
    rows = [json.loads(line) for line in run.stdout.decode("utf-8").splitlines()]
    if [r["id"] for r in rows] != [str(i) for i in range(len(texts))]:
        raise SystemExit("prepare did not answer every line in order")
    names = sorted(rows[0]["features"])
    counts = np.array([len(r["grams"]) for r in rows])
    at = np.concatenate([r["grams"] for r in rows]).astype(np.int32)
    values = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    grams = csr_matrix((values, at, np.concatenate([[0], np.cumsum(counts)])), shape=(len(rows), BUCKETS))
    features = np.array([[r["features"][n] for n in names] for r in rows], np.float64)
    return grams, names, features, np.array([len(t) for t in texts])


def fit(x, y, strength):
    model = LogisticRegression(C=strength, max_iter=100, tol=0.01, solver="liblinear", random_state=SEED)
    model.fit(x, y)
    return model.coef_[0], float(model.intercept_[0])


def out_of_fold(x, y, fold, strength):
    z = np.full(len(y), np.nan)
    for k in range(FOLDS):
        w, b = fit(x[fold != k], y[fold != k], strength)
        z[fold == k] = x[fold == k] @ w + b
    return z


def log_loss(z, y):
    return float((np.logaddexp(0, z) - z * y).mean())


def wilson(hits, n):
    if n == 0:
        return 0.0, 1.0
    p, z = hits / n, 1.959964
    centre, spread = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def points(z, harm, agrees, harmful, legitimate):
    """The harm point, then the lowest spam point from which what is settled agrees often enough and holds no comment
    that a person called legitimate."""
    below = float(np.quantile(harm[harmful], HARM_MISSED)) if harmful.any() else -1e9
    open_ = harm < below
    order = np.argsort(-z[open_], kind="stable")
    agreed, legit, at = agrees[open_][order], legitimate[open_][order], z[open_][order]
    good = np.cumsum(agreed) / np.arange(1, len(agreed) + 1) >= AGREEMENT
    good &= np.cumsum(legit) == 0
    good = np.flatnonzero(good & (np.arange(len(agreed)) + 1 >= 1 / (1 - AGREEMENT)))
    if not len(good):
        raise SystemExit("no point settles enough in agreement; the stage is not written")
    # Up to the next text above, not below, so that ties settle nothing new.
    last = good[-1]
    return float(at[last]), below


def quantised(weights):
    scale = float(np.abs(weights).max()) / 127 or 1.0
    return np.round(weights / scale).astype(np.int8), scale


def run(args, f):
    from safetensors.numpy import load_file

    import heads as fitting
    if not args.moothall:
        raise SystemExit("firststage: --moothall names the product's binary")
    rows = sample(f)
    found, manifest = taught(args, f, rows)
    p = probabilities(found, load_file(str(MODELS / "heads.safetensors")))
    known = ~np.isnan(p[:, 0])
    rows, p = rows[known], p[known]
    of = {label: p[:, BINARY.index(label)] for label in [*MULTILABEL["abuse"], "spam", "safeguarding"]}
    point = manifest["operating_points"]

    def above(share):
        """Texts in which anything but spam reaches `share` of the way to a person's desk."""
        hit = of["safeguarding"] >= share * point["safeguarding"]["escalate"]
        for label in MULTILABEL["abuse"]:
            if label in point and label != "profanity":
                hit |= of[label] >= share * point[label]["hold"]
        return hit
    agrees = (of["spam"] >= point["spam"]["reject"]) & ~above(1.0)
    harmful = above(WARY)
    spam = BINARY.index("spam")
    legitimate = (f.gold[rows, spam] & (f.y[rows, spam] < 0.5)) | np.isin(f.source[rows], ["polis", "nhs_fft_v6", "nhs_fft_phase1", "themefinder_synthetic"])
    part = f.part[rows]
    learn = part != "dev"
    fold = np.array([int(k[8:16], 16) % FOLDS for k in f.key[rows]])

    grams, names, features, length = prepared(args.moothall, [f.text[i] for i in rows])
    mean, std = features[learn].mean(0), features[learn].std(0)
    std[std < 1e-6] = 1.0
    x = hstack([grams, csr_matrix(np.clip((features - mean) / std, -8, 8))]).tocsr()
    columns = {}
    for name, y in (("spam", agrees.astype(float)), ("harm", harmful.astype(float))):
        tried = [(log_loss(z, y[learn]), strength, z) for strength in STRENGTHS
                 for z in [out_of_fold(x[learn], y[learn], fold[learn], strength)]]
        loss, strength, z = min(tried, key=lambda one: one[0])
        weights, bias = fit(x[learn], y[learn], strength)
        steps, scale = quantised(weights[:BUCKETS])
        whole = np.concatenate([steps * scale, weights[BUCKETS:]])
        columns[name] = {"steps": steps, "scale": scale, "features": weights[BUCKETS:], "bias": bias, "unseen": z,
                         "z": x @ whole + bias}
        print(f"{name}: strength {strength:g}, log loss {loss:.4f}, {int(y[learn].sum())} of {int(learn.sum())} rows", flush=True)
    short = length <= 2000
    z, harm = columns["spam"]["unseen"], columns["harm"]["unseen"]
    usable = short[learn]
    settle_from, harm_below = points(z[usable], harm[usable], agrees[learn][usable], harmful[learn][usable], legitimate[learn][usable])
    slope, offset = fitting.platt(z, of["spam"][learn], np.ones(int(learn.sum())))

    tensors = {"feature_mean": mean.astype(np.float32), "feature_std": std.astype(np.float32),
               "calibration": np.array([slope, offset], np.float32)}
    for name, column in columns.items():
        tensors[f"{name}.grams"] = column["steps"]
        tensors[f"{name}.scale_and_bias"] = np.array([column["scale"], column["bias"]], np.float32)
        tensors[f"{name}.features"] = column["features"].astype(np.float32)
    path = MODELS / "first_stage.safetensors"
    write_atomic(path, save(tensors))

    def figures(chosen, z, harm):
        settled = chosen & short & (z >= settle_from) & (harm < harm_below)
        n, right = int(settled.sum()), int((settled & agrees).sum())
        low, high = wilson(right, n)
        return {"rows": int(chosen.sum()), "settled": n, "agree": right, "agreement": right / max(n, 1), "low": low, "high": high,
                "share_of_rejected_spam": right / max(int((chosen & agrees).sum()), 1),
                "legitimate": int((chosen & legitimate).sum()), "legitimate_settled": int((settled & legitimate).sum()),
                "harmful_settled": int((settled & above(1.0)).sum())}

    def spread(values):
        out = np.full(len(rows), np.nan)
        out[learn] = values
        return out
    unseen = figures(learn, spread(z), spread(harm))
    dev = figures(part == "dev", columns["spam"]["z"], columns["harm"]["z"])
    write_manifest(manifest, path, names, settle_from, harm_below, unseen, dev)
    kinds = mixes(f, rows, columns, part == "dev", short, settle_from, harm_below, agrees)
    write_atomic(MODELS / "FIRST_STAGE.md", report(unseen, dev, kinds))
    print(json.dumps({"unseen": unseen, "dev": dev}, indent=1), flush=True)


def mixes(f, rows, columns, chosen, short, settle_from, harm_below, agrees):
    """Shares by what people said of the dev rows."""
    settled = short & (columns["spam"]["z"] >= settle_from) & (columns["harm"]["z"] < harm_below)
    spam = BINARY.index("spam")
    gold, y = f.gold[rows, spam], f.y[rows, spam]
    source, moderation = f.source[rows], f.moderation[rows]
    groups = [("comment spam written for this project", gold & (y > 0.5) & f.authored[rows]),
              ("text messages and video comments that are spam", gold & (y > 0.5) & ~f.authored[rows]),
              ("the same kinds that are not", gold & (y < 0.5) & ~f.authored[rows]),
              ("legitimate comments written for this project", f.authored[rows] & np.isin(moderation, ["ok", "off_topic"])),
              ("disclosures written for this project", f.authored[rows] & (moderation == "safeguarding")),
              ("abuse written for this project", f.authored[rows] & (moderation == "abuse")),
              ("consultation statements and patient feedback", np.isin(source, ["polis", "nhs_fft_v6", "nhs_fft_phase1", "themefinder_synthetic"]))]
    return [(name, int((g & chosen).sum()), int((g & chosen & agrees).sum()), int((g & chosen & settled).sum()),
             int((g & chosen & settled & ~agrees).sum())) for name, g in groups]


def report(unseen, dev, kinds):
    def share(part, whole):
        return f"{100 * part / whole:.1f} %" if whole else "-"
    lines = ["# First stage", "", "Written by `python models/training/train.py firststage`. Settled means: the first stage rejects the text as spam "
             "and the encoder never sees it. In agreement: the whole engine rejects it as spam too, and sees no abuse or disclosure in it that "
             "would reach a person.", "",
             "| rows | read | rejected as spam by the engine and settled | settled | in agreement | legitimate by a person, settled | abuse or disclosure for a person, settled |",
             "| --- | ---: | ---: | ---: | --- | ---: | ---: |"]
    for name, v in (("train and calibration, each judged by a fit that did not see it (the points come from these)", unseen),
                    ("dev", dev)):
        lines.append(f"| {name} | {v['rows']:,} | {100 * v['share_of_rejected_spam']:.0f} % | {v['settled']:,} | "
                     f"{v['agree']:,} = {100 * v['agreement']:.2f} % [{100 * v['low']:.2f}, {100 * v['high']:.2f}] | "
                     f"{v['legitimate_settled']} of {v['legitimate']:,} | {v['harmful_settled']} |")
    lines += ["", "## Dev rows by kind", "", "| kind | rows | rejected as spam by the engine | settled | of these against the engine |",
              "| --- | ---: | ---: | ---: | ---: |"]
    for name, n, rejected, settled, against in kinds:
        lines.append(f"| {name} | {n:,} | {rejected:,} ({share(rejected, n)}) | {settled:,} ({share(settled, n)}) | {against} |")
    return "\n".join(lines) + "\n"


def write_manifest(manifest, path, names, settle_from, harm_below, unseen, dev):
    from export import add_section, table, toml
    text = table("first_stage", {
        "weights": path.name, "weights_sha256": sha256_file(path), "heads_sha256": manifest["heads"]["weights_sha256"],
        "features": names, "settle_from": settle_from, "harm_below": harm_below, "card": "FIRST_STAGE.md",
        "licence": "MIT OR Apache-2.0"})
    text += "[first_stage.metrics]\n" + "".join(
        f"{name} = {{ agreement = {toml(float(v['agreement']))}, low = {toml(float(v['low']))}, high = {toml(float(v['high']))}, n = {v['settled']} }}\n"
        for name, v in (("unseen", unseen), ("dev", dev)))
    add_section("first_stage", text)
