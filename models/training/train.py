"""One command per stage:  python models/training/train.py STAGE [--data DIR] [--base DIR] [--work DIR]"""

import argparse
import pickle
import tempfile
from pathlib import Path

import numpy as np

import common
from common import LOWER_LAYERS, MAX_TOKENS, MODELS, SEED


PREPARE = None   # the product's binary, when given


def label(which):
    """Work files of the authored rows carry the files' hash, so that a new comment is never missed."""
    import hashlib

    import data
    if which == "public":
        return which
    return which + ("-prepared-" if PREPARE else "-") + hashlib.sha256(b"".join(p.read_bytes() for p in data.authored_files())).hexdigest()[:8]


def frame(args, which):
    """The table of one group (`public` or `authored`), built once and kept in the work folder."""
    import data
    path = args.work / f"{label(which)}.pkl"
    if path.exists():
        return pickle.loads(path.read_bytes())
    if which == "public":
        rows = data.choose(data.public_table(args.data))
    else:
        public = {k: p for k, p in zip(frame(args, "public").key, frame(args, "public").part)}
        rows = [r for r in data.authored_table(args.data).values() if r.key not in public]
    made = data.Frame(rows)
    if which == "authored" and PREPARE:
        import judging
        made.judged = judging.prepare(PREPARE, made.text)[0]
    common.write_atomic(path, pickle.dumps(made))
    return made


def split_table(args):
    """Counts per source and part, written down before anything is trained."""
    import data
    from collections import Counter
    public, authored = data.public_table(args.data), data.authored_table(args.data)
    chosen = Counter((r.sources[0], r.part) for r in data.choose(public))
    count = Counter((r.sources[0], r.part) for t in (public, authored) for r in t.values())
    parts = ["train", "calibration", "dev"]
    lines = ["# Splits", "", "By hash of the lower-cased, whitespace-collapsed text (`splits.py`); a set's own dev rows are "
             "dev too. Texts that occur in several sets are counted once, under the first. In brackets: the rows used "
             "(large sources are capped, by order of the hash; rare labels first in train only).", "",
             "| source | " + " | ".join(parts) + " |", "| --- |" + " ---: |" * 3]
    public_sources = {s for s, _ in chosen}
    for source in sorted({s for s, _ in count}):
        cells = [f"{count[source, p]:,}" + (f" ({chosen[source, p]:,})" if source in public_sources else "") for p in parts]
        lines.append(f"| {source} | " + " | ".join(cells) + " |")
    lines.append("| all | " + " | ".join(f"{sum(count[s, p] for s, q in count if q == p):,}" for p in parts) + " |")
    lines += ["", "## Rows with a person's label, among the rows used (positive)", "", "| label | " + " | ".join(parts) + " |",
              "| --- |" + " ---: |" * 3]
    f = data.concat([frame(args, "public"), data.Frame(list(authored.values()))])
    for j, label in enumerate(common.BINARY):
        cells = [f"{int(k.sum()):,} ({int((f.y[k, j] > 0.5).sum()):,})" for k in ((f.part == p) & f.gold[:, j] for p in parts)]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for c in common.CLASSES:
        lines.append(f"| {c} | " + " | ".join(f"{int(((f.part == p) & (f.cls[c] >= 0)).sum()):,}" for p in parts) + " |")
    common.write_atomic(MODELS / "training/SPLITS.md", "\n".join(lines) + "\n")


def baselines_stage(args):
    import baselines
    import data
    f = data.concat([frame(args, "public"), frame(args, "authored")])
    binary, classes = baselines.fit(f)
    common.write_atomic(args.work / "baselines.pkl", pickle.dumps({"keys": f.key, "binary": binary, "classes": classes}))


def whole(args):
    """Public and authored rows as one table."""
    import data
    return data.concat([frame(args, "public"), frame(args, "authored")])


def tune_stage(args):
    import torch

    import encoder
    import tune
    torch.set_num_threads(args.threads)
    folder = encoder.base_folder(args.base, args.work)
    base, tokenizer = encoder.load_base(folder), encoder.load_tokenizer(folder)
    model = encoder.load_exported(MODELS / "encoder", folder) if args.exported else encoder.load_base(folder)
    tune.run(model, base, tokenizer, whole(args), args.work, args.exported)


def tuned_model(args):
    import torch

    import encoder
    model = encoder.load_base(encoder.base_folder(args.base, args.work))
    path = args.work / "tuned.pt"
    joint = None
    if path.exists() and not args.frozen:
        saved = torch.load(path, weights_only=False)
        model.load_state_dict({k: v.float() for k, v in saved["model"].items()})
        joint = {k: v.numpy() for k, v in saved["heads"].items()}
    else:
        model.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    return model.eval(), joint


KEEP = ["sms", "youtube", "tgspam", "polis", "nhs_fft_v6", "nhs_fft_phase1", "themefinder_synthetic",
        "perspective_wiki", "convabuse"]


def embed_stage(args):
    """Pooled vectors of all calibration and dev rows, all authored ones, and of the train rows that heads are refitted on."""
    import torch

    import encoder
    torch.set_num_threads(args.threads)
    model, _ = tuned_model(args)
    tok = encoder.load_tokenizer(encoder.base_folder(args.base, args.work))
    for which in ("authored", "public"):
        f = frame(args, which)
        skip = np.flatnonzero((f.part == "train") & ~np.isin(f.source, KEEP) & (which == "public"))
        skip = np.random.default_rng(SEED).permutation(skip)[args.embed_train:]
        wanted = np.setdiff1d(np.arange(len(f)), skip)
        x = np.full((len(f), 384), np.nan, np.float32)
        for start in range(0, len(wanted), 8192):
            rows = wanted[start:start + 8192]
            x[rows] = encoder.pooled(model, encoder.tokenise(tok, [f.judged[i] for i in rows], [MAX_TOKENS] * len(rows)))
            print(f"embedded {which}: {min(start + 8192, len(wanted))} of {len(wanted)}", flush=True)
        np.save(args.work / f"embedding-{label(which)}.npy", x)
    if args.moothall:
        features_stage(args)


def features_stage(args):
    """Rows with a spam label as `moothall prepare` gives them: surface features for all, and for those with a person's
    label the judging text, embedded again."""
    import torch

    import encoder
    import judging
    from common import BINARY
    torch.set_num_threads(args.threads)
    model, _ = tuned_model(args)
    tok = encoder.load_tokenizer(encoder.base_folder(args.base, args.work))
    spam = BINARY.index("spam")
    for which in ("public", "authored"):
        f = frame(args, which)
        path = args.work / f"embedding-{label(which)}.npy"
        x = np.load(path)
        rows = np.flatnonzero(~np.isnan(f.y[:, spam]) & ~np.isnan(x[:, 0]))
        texts, names, values = judging.prepare(args.moothall, [f.text[i] for i in rows])
        if names:
            features = np.full((len(f), len(names)), np.nan, np.float32)
            features[rows] = values
            np.savez(args.work / f"features-{label(which)}.npz", names=np.array(names), values=features)
        if which == "public":
            again = [k for k, i in enumerate(rows) if f.gold[i, spam]]
            ids = encoder.tokenise(tok, [texts[k] for k in again], [MAX_TOKENS] * len(again))
            x[[rows[k] for k in again]] = encoder.pooled(model, ids)
            np.save(path, x)
        print(f"prepared {which}: {len(rows)} rows, {len(names)} features", flush=True)


def gathered(args):
    """Rows, pooled vectors and spam features of both groups."""
    import data
    names = ("public", "authored")
    f = data.concat([frame(args, w) for w in names])
    x = np.concatenate([np.load(args.work / f"embedding-{label(w)}.npy") for w in names])
    f.has = ~np.isnan(x[:, 0])
    x = np.nan_to_num(x)
    features, feature_names = None, []
    files = [args.work / f"features-{label(w)}.npz" for w in names]
    if all(p.exists() for p in files):
        loaded = [np.load(p) for p in files]
        feature_names = loaded[0]["names"].tolist()
        features = np.concatenate([v["values"] for v in loaded])
        f.has_features = ~np.isnan(features[:, 0])
        features = np.where(np.isnan(features), np.nanmean(features, axis=0), features)
    return f, x, features, feature_names


def heads_stage(args):
    import heads
    f, x, features, names = gathered(args)
    _, joint = tuned_model(args)
    fitted = heads.fit_all(f, x, joint, features, names)
    common.write_atomic(args.work / "heads.pkl", pickle.dumps(fitted))


GENERAL = ["abuse", "spam", "safeguarding"]   # multilabel heads that belong to no codebook


def judge_stage(args):
    """What the product itself computes from the models just exported: the logits of the general heads with windows and
    sentences combined and surface features added. Calibration and operating points come from these."""
    import judging
    if not args.moothall:
        raise SystemExit("judge: --moothall names the product's binary")
    f, _, _, _ = gathered(args)
    rows = np.flatnonzero(f.has & ((f.part != "train") | f.authored))
    found = judging.logits(args.moothall, MODELS, [f.text[i] for i in rows], args.threads)
    z = np.full((len(f), len(common.BINARY)), np.nan, np.float32)
    polarity = np.full((len(f), len(common.CLASSES["polarity"])), np.nan, np.float32)
    for i, heads in zip(rows, found):
        if not heads:
            continue
        for name in GENERAL:
            z[i, [common.BINARY.index(t) for t in common.MULTILABEL[name]]] = heads[name]
        polarity[i] = heads["polarity"]
    np.savez(args.work / "judged.npz", z=z, polarity=polarity, heads=weights_hash(args))
    print(f"judged {len(rows)} rows", flush=True)


def weights_hash(args):
    """Names the fit that the judged logits belong to; calibration may change, weights may not."""
    import hashlib
    fitted = pickle.loads((args.work / "heads.pkl").read_bytes())
    h = hashlib.sha256()
    for name in [*GENERAL, "polarity"]:
        h.update(fitted[name]["weight"].tobytes())
    return h.hexdigest()


def judged(args):
    path = args.work / "judged.npz"
    if not path.exists():
        return None
    found = np.load(path)
    return found if str(found["heads"]) == weights_hash(args) else None


def calibrate_stage(args):
    """Calibrates the general heads on what the product computes for the calibration rows."""
    import heads
    found = judged(args)
    if found is None:
        raise SystemExit("calibrate: run `judge` for these heads first")
    f, _, _, _ = gathered(args)
    fitted = pickle.loads((args.work / "heads.pkl").read_bytes())
    for name in GENERAL:
        for k, label in enumerate(common.MULTILABEL[name]):
            z = found["z"][:, common.BINARY.index(label)]
            rows, weight = heads.calibration_rows(f, label)
            known = ~np.isnan(z[rows])
            rows = np.flatnonzero(rows)[known]
            fitted[name]["calibration"][k] = heads.platt(z[rows], f.y[rows, common.BINARY.index(label)], weight[known])
            print(f"{name}.{label}: platt {fitted[name]['calibration'][k].round(3).tolist()}, {len(rows)} rows", flush=True)
    rows = (f.part == "calibration") & (f.cls["polarity"] >= 0) & ~np.isnan(found["polarity"][:, 0])
    fitted["polarity"]["temperature"] = heads.temperature(found["polarity"][rows], f.cls["polarity"][rows])
    common.write_atomic(args.work / "heads.pkl", pickle.dumps(fitted))


def predicted(args):
    """Calibrated probabilities of every row: as the product judges where it has judged, else from the pooled vectors."""
    import heads
    f, x, features, _ = gathered(args)
    fitted = pickle.loads((args.work / "heads.pkl").read_bytes())
    found = judged(args)
    p = np.zeros((len(f), len(common.BINARY)))
    for name, labels in common.MULTILABEL.items():
        js = [common.BINARY.index(label) for label in labels]
        p[:, js] = heads.probabilities(fitted[name], x, features)
        if found is not None and name in GENERAL:
            z = found["z"][:, js]
            own = ~np.isnan(z[:, 0])
            c = fitted[name]["calibration"]
            p[np.ix_(own, js)] = heads.sigmoid(z[own] * c[:, 0] + c[:, 1])
    classes = {c: heads.probabilities(fitted[c], x) for c in common.CLASSES}
    if found is not None:
        own = ~np.isnan(found["polarity"][:, 0])
        classes["polarity"][own] = heads.softmax(found["polarity"][own] / fitted["polarity"]["temperature"])
    return f, fitted, p, classes


def thresholds_stage(args):
    import thresholds
    f, _, p, _ = predicted(args)
    common.save_json(args.work / "points.json", thresholds.derive(f, p))


def evaluate_stage(args):
    import evaluate
    f, fitted, p, classes = predicted(args)
    points = common.load_json(args.work / "points.json")
    path = args.work / "baselines.pkl"
    base = np.full_like(p, np.nan)
    base_classes = {c: np.full_like(v, np.nan) for c, v in classes.items()}
    if path.exists():
        saved = pickle.loads(path.read_bytes())
        at = {k: i for i, k in enumerate(saved["keys"])}
        rows = [(i, at[k]) for i, k in enumerate(f.key) if k in at]
        here, there = np.array(rows).T
        base[here] = saved["binary"][there]
        for c in classes:
            base_classes[c][here] = saved["classes"][c][there]
    figures = evaluate.measure(f, p, classes, base, base_classes, points)
    calibrated = evaluate.calibration(f, p, classes)
    operated = evaluate.operation(f, p, points)
    note = ("Encoder: the base as published, no fine-tuning (a first export for integration)." if args.frozen else
            "Encoder: upper four layers fine-tuned on all tasks at once; embeddings and lower two layers as published.")
    common.write_atomic(args.work / "measured.md", evaluate.report(figures, calibrated, operated, points, note))
    common.save_json(args.work / "figures.json", {
        "figures": figures, "calibration": calibrated, "operation": operated, "points": points,
        "choices": {k: v.get("choice") for k, v in fitted.items()}})


def devsets_stage(args):
    import devsets
    devsets.write(args.work, args.data, frame(args, "public"), frame(args, "authored"))


def firststage_stage(args):
    """Teaches the first stage by the models just exported, and adds it to the manifest."""
    import firststage
    firststage.run(args, whole(args))


def spans_stage(args):
    """Teaches the span head by the vectors of the encoder just exported, and adds it to the manifest."""
    import spans
    spans.run(args)


def export_stage(args):
    import encoder
    import export
    model, _ = tuned_model(args)
    folder = encoder.base_folder(args.base, args.work)
    fitted = pickle.loads((args.work / "heads.pkl").read_bytes())
    export.write(model, folder, fitted, common.load_json(args.work / "figures.json"), args.frozen)


def check_stage(args):
    """Reads the exported files as an engine would and compares with the reference."""
    import torch
    from safetensors.numpy import load_file
    from safetensors.torch import load_file as load_torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    import encoder
    config = BertConfig.from_pretrained(MODELS / "encoder")
    model = BertModel(config, add_pooling_layer=False).eval()
    state = {k.removeprefix("bert."): v.float() for k, v in load_torch(str(MODELS / "encoder/model.safetensors")).items()}
    model.load_state_dict(state)
    heads = load_file(str(MODELS / "heads.safetensors"))
    tok = Tokenizer.from_file(str(MODELS / "encoder/tokenizer.json"))
    worst = 0.0
    for row in common.load_json(MODELS / "reference.json")["texts"]:
        ids = tok.encode(row["text"]).ids
        if ids != row["ids"]:
            raise SystemExit("token ids differ")
        mask = torch.ones(1, len(ids), dtype=torch.bool)
        with torch.inference_mode():
            h = model(input_ids=torch.tensor([ids]), attention_mask=mask.long()).last_hidden_state
            x = encoder.pool(h, mask)[0].numpy()
        worst = max(worst, float(np.abs(x[:8] - row["pooled"]).max()))
        for name, want in row["logits"].items():
            z = heads[f"{name}.weight"][:, :384] @ x + heads[f"{name}.bias"]
            worst = max(worst, float(np.abs(z - want).max()))
    print(f"worst difference {worst:.2e}")
    if worst > 1e-4:
        raise SystemExit(1)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("stage", choices=list(STAGES))
    p.add_argument("--data", type=Path, default=MODELS.parent / "../shared/datasets")
    p.add_argument("--base", type=Path, default=None, help="folder of the base encoder; else it is downloaded")
    p.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "moothall-training")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--exported", action="store_true", help="train: only the last epoch, from the weights in models/encoder")
    p.add_argument("--embed-train", type=int, default=35000,
                   help="embed: public train rows on which heads are refitted, besides those of the small sources")
    p.add_argument("--frozen", action="store_true", help="use the base encoder as published")
    p.add_argument("--moothall", type=Path, default=None, help="the product's binary, for judging text and spam features")
    args = p.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    common.seed_everything()
    global PREPARE
    PREPARE = args.moothall
    STAGES[args.stage](args)


STAGES = {"splits": split_table, "baselines": baselines_stage, "train": tune_stage,
          "embed": embed_stage, "features": features_stage,
          "heads": heads_stage, "judge": judge_stage, "calibrate": calibrate_stage, "thresholds": thresholds_stage,
          "evaluate": evaluate_stage, "devsets": devsets_stage, "firststage": firststage_stage, "spans": spans_stage,
          "export": export_stage, "cards": export_stage, "check": check_stage}

if __name__ == "__main__":
    main()
