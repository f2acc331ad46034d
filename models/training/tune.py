"""Multi-task fine-tuning of the upper layers over cached hidden states; resumable."""

import time

import numpy as np
import torch
import torch.nn.functional as F

import encoder
import heads
from common import BINARY, CLASSES, SEED

EFFORT = {"safeguarding": 2.0, "spam": 1.0, "profanity": 0.5}   # weight of a label's loss; 1.2 for themes
CLASS_EFFORT = {"polarity": 1.0, "stance": 0.8, "attitude": 0.8, "tone": 0.8}


class Heads(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.binary = torch.nn.Linear(384, len(BINARY))
        for name, labels in CLASSES.items():
            setattr(self, name, torch.nn.Linear(384, len(labels)))
        self.drop = torch.nn.Dropout(0.1)

    def forward(self, x):
        x = self.drop(x)
        return self.binary(x), {name: getattr(self, name)(x) for name in CLASSES}


def plan(lengths, authored, mood_only, repeat, rng, tokens=3072, most=64):
    """One epoch of batches: authored rows `repeat` times, half of the rows that only teach polarity,
    texts of like length together, in random order."""
    public = np.flatnonzero(~authored)
    public = public[~mood_only[public] | (rng.random(len(public)) < 0.5)]
    ids = np.concatenate([np.tile(np.flatnonzero(authored), repeat), public])
    rng.shuffle(ids)
    out = []
    for start in range(0, len(ids), 4096):
        window = ids[start:start + 4096]
        for b in encoder.batches(lengths[window], tokens, most):
            out.append(window[b])
    order = rng.permutation(len(out))
    return [out[i] for i in order]


class Epoch:
    """The train rows of one epoch with targets and weights. Frames in the order public, authored."""

    def __init__(self, frames, caches, number, repeat):
        self.caches = caches
        self.rows = rows = [(g, i) for g, f in enumerate(frames)
                            for i in np.flatnonzero(f.part == "train") if i in caches[g].where]
        y = np.stack([frames[g].y[i] for g, i in rows])
        w = np.stack([frames[g].w[i] for g, i in rows]).astype(np.float32)
        effort = np.array([EFFORT.get(label, 1.2 if j >= 10 else 1.0) for j, label in enumerate(BINARY)], np.float32)
        w = np.where(np.isnan(y), 0, w) * effort
        self.cls = {c: np.array([frames[g].cls[c][i] for g, i in rows]) for c in CLASSES}
        source = np.array([frames[g].source[i] for g, i in rows])
        self.cls_w = {}
        for c, labels in CLASSES.items():
            self.cls_w[c] = np.zeros(len(rows), np.float32)
            m = self.cls[c] >= 0
            if m.any():
                self.cls_w[c][m] = CLASS_EFFORT[c] * heads.class_weights(
                    source[m], self.cls[c][m], len(labels), c == "polarity")
        self.authored = np.array([g == 1 for g, _ in rows])
        mood_only = (self.cls["polarity"] >= 0) & ~((w > 0) & (np.array(BINARY) != "profanity")).any(1)
        self.target = torch.from_numpy(np.nan_to_num(y).astype(np.float32))
        self.weight = torch.from_numpy(w.astype(np.float32))
        lengths = np.array([caches[g].length(i) for g, i in rows])
        self.steps = plan(lengths, self.authored, mood_only, repeat, np.random.default_rng(SEED + number))

    def loss(self, model, top, b):
        h, mask = encoder_get(self.caches, [self.rows[i] for i in b])
        z, zc = top(encoder.pool(encoder.upper(model, h, mask), mask))
        each = F.binary_cross_entropy_with_logits(z, self.target[b], weight=self.weight[b], reduction="none")
        loss = each.sum() / len(b)
        for c in CLASSES:
            m = self.cls[c][b] >= 0
            if m.any():
                part = F.cross_entropy(zc[c][torch.from_numpy(m)], torch.from_numpy(self.cls[c][b][m]), reduction="none")
                loss = loss + (part * torch.from_numpy(self.cls_w[c][b][m])).sum() / len(b)
        return loss


def run(model, load, work, epochs=2, repeat=4, rate=6e-5, minutes=None, log=print):
    """`load()` gives (frames, caches) at the start of each epoch, so that authored rows added since are seen too.
    With `minutes`, the rate falls with the clock where that is faster than the steps, and the run ends in time."""
    top = Heads()
    for p in model.parameters():
        p.requires_grad = False
    trained = [p for layer in model.encoder.layer[encoder.LOWER_LAYERS:] for p in layer.parameters()]
    for p in trained:
        p.requires_grad = True
    groups = [{"params": trained, "lr": rate, "weight_decay": 0.01},
              {"params": top.parameters(), "lr": 1e-3, "weight_decay": 0.01}]
    opt = torch.optim.AdamW(groups)
    rates = [g["lr"] for g in groups]
    checkpoint, at = work / "tune.pt", (0, 0)
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        top.load_state_dict(saved["heads"])
        opt.load_state_dict(saved["opt"])
        at = saved["at"]
        log(f"resumed at epoch {at[0]} step {at[1]}", flush=True)
    model.train()
    top.train()
    start, whole = (at[0] / epochs), time.time()
    for e in range(at[0], epochs):
        epoch = Epoch(*load(), e, repeat)
        n = len(epoch.steps)
        log(f"epoch {e}: {len(epoch.rows)} rows ({int(epoch.authored.sum())} authored), {n} steps", flush=True)
        began, seen, running = time.time(), 0, []
        first = at[1] if e == at[0] else 0   # an epoch whose rows changed goes on in the new plan
        for s in range(first, n):
            progress = (e + s / n) / epochs
            if minutes:
                progress = max(progress, start + (1 - start) * (time.time() - whole) / (60 * minutes))
                if progress >= 1:
                    log(f"time is up at epoch {e} step {s} of {n}", flush=True)
                    break
            for g, r in zip(opt.param_groups, rates):
                g["lr"] = r * min(progress / 0.05 + 0.01, max(0.02, (1 - progress) / 0.95))
            b = epoch.steps[s]
            loss = epoch.loss(model, top, b)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            opt.step()
            running.append(float(loss.detach()))
            seen += len(b)
            if (s + 1) % 100 == 0:
                spent = time.time() - began
                log(f"epoch {e} step {s + 1}/{n} loss {np.mean(running[-100:]):.4f} {seen / spent:.0f} texts/s, "
                    f"{spent / (s + 1 - first) * (n - s - 1) / 60:.1f} min left", flush=True)
            if (s + 1) % 300 == 0 or s + 1 == n:
                torch.save({"model": model.state_dict(), "heads": top.state_dict(), "opt": opt.state_dict(),
                            "at": (e, s + 1) if s + 1 < n else (e + 1, 0)}, work / "tune.tmp")
                (work / "tune.tmp").replace(checkpoint)
        torch.save({"model": {k: v.half() for k, v in model.state_dict().items()}, "heads": top.state_dict(),
                    "epochs": e + 1}, work / "tuned.tmp")
        (work / "tuned.tmp").replace(work / "tuned.pt")


def encoder_get(caches, picked):
    """Padded hidden states of rows from both groups."""
    by = [[i for g, i in picked if g == k] for k in (0, 1)]
    if not by[1]:
        return caches[0].get(by[0])
    lengths = [caches[g].length(i) for g, i in picked]
    h = torch.zeros(len(picked), max(lengths), 384)
    mask = torch.zeros(len(picked), max(lengths), dtype=torch.bool)
    for k, (g, i) in enumerate(picked):
        one, m = caches[g].get([i])
        h[k, :lengths[k]], mask[k, :lengths[k]] = one[0], m[0]
    return h, mask


def embed(model, cache, n, skip=(), tokens=4096):
    """Pooled vectors of the cached rows of one group."""
    out = np.full((n, 384), np.nan, np.float32)
    ids = np.array([i for i in sorted(cache.where) if i not in skip])
    lengths = np.array([cache.length(i) for i in ids])
    model.eval()
    with torch.inference_mode():
        for b in encoder.batches(lengths, tokens):
            h, mask = cache.get(ids[b])
            out[ids[b]] = encoder.pool(encoder.upper(model, h, mask), mask).numpy()
    return out
