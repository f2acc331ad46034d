"""The span head: which words of a comment people would point at as what makes it toxic.

A logistic regression over the token vectors of the exported encoder, learnt from the public span set (SemEval-2021
task 5, CC0-1.0). Train rows teach it, calibration rows give the point from which a word is marked, dev rows measure; the split is that of
every other set (splits.py). Writes models/spans.safetensors, the manifest's [spans] and models/SPANS.md.
"""

import gzip
import json

import numpy as np
import torch
from safetensors.numpy import save
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

import splits
from common import MAX_TOKENS, MODELS, SEED, sha256_file, write_atomic
from devsets import WordList
from export import add_section, table

TRAIN_ROWS = 2400
MEASURED_ROWS = 800    # of calibration and of dev
STRENGTH = 1e-3
RESAMPLES = 1000


def rows_of(data):
    """Texts with the characters that people marked, by part, in the order of their hashes."""
    parts = {"train": [], "calibration": [], "dev": []}
    with gzip.open(data / "spans/civil_toxic_spans.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            r = json.loads(line)
            k = splits.key(r["text"])
            parts[splits.part(k, r["split"])].append((k, r["text"], {c for a, b in r["spans"] for c in range(a, b)}))
    return {p: [(t, g) for _, t, g in sorted(rows, key=lambda r: r[0])[:TRAIN_ROWS if p == "train" else MEASURED_ROWS]]
            for p, rows in parts.items()}


class Encoder:
    """The exported encoder, read as the engine reads it."""

    def __init__(self):
        self.model = BertModel(BertConfig.from_pretrained(MODELS / "encoder"), add_pooling_layer=False).eval()
        state = load_file(str(MODELS / "encoder/model.safetensors"))
        self.model.load_state_dict({k.removeprefix("bert."): v.float() for k, v in state.items()})
        self.tokenizer = Tokenizer.from_file(str(MODELS / "encoder/tokenizer.json"))

    def vectors(self, texts):
        """For each text the vectors of its first window's word pieces, their characters, and which go on with a word."""
        found = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 16):
            some = order[start:start + 16]
            encoded = [self.tokenizer.encode(texts[i]) for i in some]
            counts = [min(len(e.ids), MAX_TOKENS) for e in encoded]
            ids = torch.zeros(len(some), max(counts), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, (e, n) in enumerate(zip(encoded, counts)):
                ids[row, :n] = torch.tensor(e.ids[:n])
                mask[row, :n] = 1
            with torch.inference_mode():
                hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            for row, (i, e, n) in enumerate(zip(some, encoded, counts)):
                last = n - 1 if n == len(e.ids) else n   # without [SEP], where it is there
                found[i] = (hidden[row, 1:last].numpy(), e.offsets[1:last], [t.startswith("##") for t in e.tokens[1:last]])
            if start // 16 % 50 == 0:
                print(f"encoded {start + len(some)} of {len(texts)}", flush=True)
        return found


def fit(vectors, rows):
    x = torch.from_numpy(np.concatenate([v for v, _, _ in vectors]))
    y = torch.tensor([float(a in gold) for (_, offsets, _), (_, gold) in zip(vectors, rows) for a, _ in offsets])
    mean, std = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / std
    w, b = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    solver = torch.optim.LBFGS([w, b], max_iter=80, history_size=20, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z @ w + b, y) + STRENGTH * (w ** 2).sum()
        loss.backward()
        return loss
    solver.step(closure)
    w, b = (w.detach() / std).numpy(), float(b.detach() - (w.detach() / std) @ mean)
    return w.astype(np.float32), np.float32(b)


def words(found, w, b):
    """(start, end, highest logit) of each word, as the engine joins its pieces."""
    vectors, offsets, continues = found
    out = []
    for logit, (start, end), goes_on in zip(vectors @ w + b, offsets, continues):
        if goes_on and out:
            out[-1] = (out[-1][0], end, max(out[-1][2], logit))
        else:
            out.append((start, end, logit))
    return out


def run_of(words, mark_from):
    """The engine's rule (src/engine/spans.rs, `marked`): one run, since a reason has one span."""
    best, run = None, None
    for start, end, logit in words:
        if logit < mark_from:
            run = None
            continue
        run = (run[0], end, run[2] + logit - mark_from) if run else (start, end, logit - mark_from)
        if best is None or run[2] > best[2]:
            best = run
    best = best or max(words, key=lambda word: word[2], default=None)
    return set(range(best[0], best[1])) if best else set()


def character_f1(marked, gold):
    if not gold or not marked:
        return float(not gold and not marked)
    return 2 * len(marked & gold) / (len(marked) + len(gold))


def interval(values):
    rng = np.random.default_rng(SEED)
    means = [np.mean(values[rng.integers(0, len(values), len(values))]) for _ in range(RESAMPLES)]
    return np.mean(values), *np.quantile(means, [0.025, 0.975])


def run(args):
    torch.set_num_threads(args.threads)
    parts, encoder = rows_of(args.data), Encoder()
    vectors = {p: encoder.vectors([t for t, _ in rows]) for p, rows in parts.items()}
    w, b = fit(vectors["train"], parts["train"])

    def scores(part, mark):
        return np.array([character_f1(mark(text, found), gold) for (text, gold), found in zip(parts[part], vectors[part])])
    points = [(scores("calibration", lambda _, found: run_of(words(found, w, b), t)).mean(), t) for t in np.arange(-4, 3.01, 0.25)]
    mark_from = float(max(points)[1])

    heads = load_file(str(MODELS / "heads.safetensors"))
    toxic, bias = heads["abuse.weight"][0].numpy()[:len(w)], float(heads["abuse.bias"][0])
    listed = WordList(args.data)
    table_rows = [(name, interval(scores("dev", mark))) for name, mark in [
        ("span head, one run of words", lambda _, found: run_of(words(found, w, b), mark_from)),
        ("span head, every marked word (a reason has room for one run)",
         lambda _, found: {c for s, e, z in words(found, w, b) if z >= mark_from for c in range(s, e)}),
        ("the head for toxic itself, its highest word", lambda _, found: run_of(words(found, toxic, bias), 1e9)),
        ("word list", lambda text, _: {c for s, e in listed.spans(text) for c in range(s, e)}),
        ("whole text", lambda text, _: set(range(len(text))))]]

    path = MODELS / "spans.safetensors"
    write_atomic(path, save({"toxic": np.append(w, b).astype(np.float32)}))
    value, low, high = table_rows[0][1]
    add_section("spans", table("spans", {
        "weights": path.name, "weights_sha256": sha256_file(path), "encoder_sha256": sha256_file(MODELS / "encoder/model.safetensors"),
        "mark_from": mark_from, "card": "SPANS.md", "licence": "MIT OR Apache-2.0",
        "training_data": ["civil_toxic_spans, SemEval-2021 task 5 (CC0-1.0)"]})
        + f"[spans.metrics]\ncharacter_f1 = {{ value = {value:.4f}, low = {low:.4f}, high = {high:.4f}, n = {len(parts['dev'])} }}\n")
    lines = ["# Spans", "", f"Written by `python models/training/train.py spans`: learnt from {len(parts['train']):,} news comments in which people marked what "
             f"makes them toxic, the point ({mark_from:g}) from {len(parts['calibration']):,} others, measured on {len(parts['dev']):,} of the dev split. "
             "Mean character F1 as SemEval-2021 task 5 defines it (nothing marked where nothing is to be marked counts 1), with the 95 % interval of "
             f"{RESAMPLES:,} resamples. All of these comments are toxic. The encoder was trained on their whole texts as toxic ones where they are not dev.", "",
             "| marks | character F1 |", "| --- | --- |"]
    lines += [f"| {name} | {v:.3f} [{low:.3f}, {high:.3f}] |" for name, (v, low, high) in table_rows]
    write_atomic(MODELS / "SPANS.md", "\n".join(lines) + "\n")
    print("\n".join(lines[4:]), flush=True)
