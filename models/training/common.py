"""Paths, words and small helpers that every stage shares."""

import hashlib
import json
import os
import random
import tempfile
from pathlib import Path

import numpy as np

SEED = 20261123
VERSION = "2026.11.3"
MODELS = Path(__file__).resolve().parent.parent

ABUSE = ["toxic", "severe", "insult", "threat", "identity_attack", "profanity", "sexual"]
THEMES = ["stigma", "asset_based", "structured", "organic", "peer_schemes",
          "mentor_quality", "outcomes", "access_funding"]
HEADLINE = ["stigma", "structured", "organic", "peer_schemes"]
BINARY = ABUSE + ["spam", "safeguarding", "off_topic"] + THEMES
CLASSES = {
    "polarity": ["positive", "neutral", "negative"],
    "stance": ["prefers_structured", "prefers_organic", "both", "none"],
    "attitude": ["positive", "neutral", "negative", "mixed"],
    "tone": ["distressed", "angry", "humorous", "critical", "warm", "neutral"],
}
# Heads in the order in which they are written.
MULTILABEL = {"abuse": ABUSE, "spam": ["spam"], "safeguarding": ["safeguarding"],
              "off_topic": ["off_topic"], "themes": THEMES}
CODEBOOK_HEADS = {"themes", "stance", "attitude", "tone", "off_topic"}
MAX_TOKENS = 128
OVERLAP_TOKENS = 32
TRAIN_TOKENS = 96
LOWER_LAYERS = 2


def seed_everything(seed=SEED):
    random.seed(seed)
    np.random.seed(seed)
    try:
        import torch
        torch.manual_seed(seed)
    except ImportError:
        pass


def write_atomic(path, data):
    """Writes bytes or text beside `path`, then renames, so that readers never see half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        data = data.encode("utf-8")
    fd, tmp = tempfile.mkstemp(dir=path.parent, prefix="." + path.name)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
    os.chmod(tmp, 0o644)
    os.replace(tmp, path)


def sha256_file(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            h.update(block)
    return h.hexdigest()


def save_json(path, value):
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def load_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))
