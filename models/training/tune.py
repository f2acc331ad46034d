"""Multi-task fine-tuning of the encoder's upper layers; resumable.

Every label is learnt at once from the rows that know it. A second term keeps the space of sentence vectors useful for
themes that nobody has named yet: within a batch the cosines between vectors stay near those of the encoder as
published (relational distillation: Park et al. 2019, here on cosines).
"""

import functools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import augment
import encoder
import heads
from common import BINARY, CLASSES, SEED, TRAIN_TOKENS
from data import AUTHORED, EPOCH_QUOTA, EPOCHS, TEMPLATE_QUOTA

EFFORT = {"safeguarding": 2.0, "spam": 1.0, "profanity": 0.5}   # weight of a label's loss; 1.2 for themes
CLASS_EFFORT = {"polarity": 1.0, "stance": 0.8, "attitude": 0.8, "tone": 0.8}
KEEP_EVERY, KEEP_WEIGHT = 2, 2.0   # the space is compared on every other batch
HEADS_FIRST = 0.08   # of an epoch that begins with exported weights: its heads are new, so they learn alone at first


@functools.cache
def multiplies_bfloat16():
    """Whether the processor has instructions for it. Elsewhere it is slower than what it replaces, and oneDNN's own answer
    says yes to every processor with AVX-512, on which it only imitates them."""
    cpu = Path("/proc/cpuinfo")
    words = set(cpu.read_text().split()) if cpu.exists() else set()
    return not words.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


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


def draw_rows(f, rng, number):
    """The rows of one epoch: each public source up to its quota, authored rows as often as `EPOCHS` says."""
    plan, train = EPOCHS[number], np.flatnonzero(f.part == "train")
    folder = np.array([source.split("/")[0] for source in f.source[train]])
    template, public = folder == "templates", ~f.authored[train]
    drawn = [np.tile(train[f.authored[train] & (folder == name)], plan[name]) for name in AUTHORED]
    drawn.append(rng.permutation(train[template])[:int(TEMPLATE_QUOTA * plan["public"])])
    for source in np.unique(f.source[train[public]]):
        rows = train[public & (f.source[train] == source)]
        drawn.append(rng.permutation(rows)[:int(EPOCH_QUOTA.get(source, len(rows)) * plan["public"])])
    return rng.permutation(np.concatenate(drawn))


class Epoch:
    """The batches of one epoch: rows, their texts as seen this time, targets and weights."""

    def __init__(self, f, tokenizer, number):
        rng = np.random.default_rng([SEED, number])
        self.rows = draw_rows(f, rng, number)
        texts = [augment.draw(f.judged[i], rng) for i in self.rows]
        self.tokens = encoder.tokenise(tokenizer, texts, [TRAIN_TOKENS] * len(texts))
        y, w = f.y[self.rows], f.w[self.rows]
        effort = np.array([EFFORT.get(label, 1.2 if j >= 10 else 1.0) for j, label in enumerate(BINARY)], np.float32)
        self.target = torch.from_numpy(np.nan_to_num(y).astype(np.float32))
        self.weight = torch.from_numpy((np.where(np.isnan(y), 0, w) * effort).astype(np.float32))
        self.cls = {c: f.cls[c][self.rows] for c in CLASSES}
        self.cls_w = {}
        for c, labels in CLASSES.items():
            self.cls_w[c] = np.zeros(len(self.rows), np.float32)
            m = self.cls[c] >= 0
            if m.any():
                self.cls_w[c][m] = CLASS_EFFORT[c] * heads.class_weights(
                    f.source[self.rows][m], self.cls[c][m], len(labels), c == "polarity")
        self.steps, lengths = [], np.array([len(t) for t in self.tokens])
        for start in range(0, len(lengths), 4096):   # texts of like length share a batch
            window = np.arange(start, min(start + 4096, len(lengths)))
            self.steps += [window[b] for b in encoder.batches(lengths[window], 3072, 64)]
        self.steps = [self.steps[i] for i in rng.permutation(len(self.steps))]

    def loss(self, model, base, top, b, keep):
        ids, mask = encoder.pad([self.tokens[i] for i in b])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=multiplies_bfloat16()):
            with torch.no_grad():
                h = encoder.lower(model, ids, mask)
            x = encoder.pool(encoder.upper(model, h, mask), mask).float()
            if keep:
                with torch.no_grad():
                    published = encoder.pool(encoder.upper(base, h, mask), mask).float()
        z, zc = top(x)
        each = F.binary_cross_entropy_with_logits(z, self.target[b], weight=self.weight[b], reduction="none")
        loss = each.sum() / len(b)
        for c in CLASSES:
            m = self.cls[c][b] >= 0
            if m.any():
                part = F.cross_entropy(zc[c][torch.from_numpy(m)], torch.from_numpy(self.cls[c][b][m]), reduction="none")
                loss = loss + (part * torch.from_numpy(self.cls_w[c][b][m])).sum() / len(b)
        if keep:
            cosines = [v @ v.T for v in (F.normalize(x, dim=1), F.normalize(published, dim=1))]
            loss = loss + KEEP_WEIGHT * F.mse_loss(*cosines)
        return loss


def rates(epoch, share, exported):
    """The rates of encoder and heads after `share` of an epoch: up, then down to a fiftieth. Epochs of one rate have one
    schedule. From exported weights the heads learn alone at first."""
    together = [e for e, plan in enumerate(EPOCHS) if plan["rate"] == EPOCHS[epoch]["rate"]]
    progress = (together.index(epoch) + share) / len(together)
    if exported and share < HEADS_FIRST:
        return 0.0, 3e-3
    factor = min(progress / 0.05 + 0.01, max(0.02, (1 - progress) / 0.95))
    return EPOCHS[epoch]["rate"] * factor, 1e-3 * factor


def run(model, base, tokenizer, f, work, exported=False, log=print):
    """`model` learns; `base` is the encoder as published, whose lower layers both share. `exported`: the model has been
    through all epochs but the last."""
    top = Heads()
    for m in (model, base):
        for p in m.parameters():
            p.requires_grad = False
    trained = [p for layer in model.encoder.layer[encoder.LOWER_LAYERS:] for p in layer.parameters()]
    for p in trained:
        p.requires_grad = True
    opt = torch.optim.AdamW([{"params": trained}, {"params": top.parameters()}], weight_decay=0.01)
    checkpoint, at = work / "tune.pt", (len(EPOCHS) - 1 if exported else 0, 0)
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        top.load_state_dict(saved["heads"])
        opt.load_state_dict(saved["opt"])
        at = saved["at"]
        log(f"resumed at epoch {at[0]} step {at[1]}", flush=True)
    model.train()
    base.eval()
    top.train()
    for e in range(at[0], len(EPOCHS)):
        epoch = Epoch(f, tokenizer, e)
        n = len(epoch.steps)
        log(f"epoch {e}: {len(epoch.rows)} rows ({int(f.authored[epoch.rows].sum())} authored), {n} steps", flush=True)
        began, seen, running = time.time(), 0, []
        first = at[1] if e == at[0] else 0
        for s in range(first, n):
            for group, rate in zip(opt.param_groups, rates(e, s / n, exported)):
                group["lr"] = rate
            b = epoch.steps[s]
            loss = epoch.loss(model, base, top, b, s % KEEP_EVERY == 0)
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
