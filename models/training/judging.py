"""The text that the encoder sees.

With the product's binary: `moothall prepare` (JSON lines), which also gives the spam features.
Without it: a stand-in that follows the same idea (NFKC, no zero-width characters, emoji named).
"""

import json
import re
import subprocess
import unicodedata
from concurrent.futures import ThreadPoolExecutor

ZERO_WIDTH = dict.fromkeys([0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD, 0xFE0E, 0xFE0F])
SPACES = re.compile(r"\s+")


def _is_emoji(c):
    o = ord(c)
    return 0x1F300 <= o <= 0x1FAFF or 0x2600 <= o <= 0x27BF or 0x1F1E6 <= o <= 0x1F1FF


def stand_in(text):
    text = unicodedata.normalize("NFKC", text).translate(ZERO_WIDTH)
    if any(map(_is_emoji, text)):
        out = []
        for c in text:
            if 0x1F3FB <= ord(c) <= 0x1F3FF:
                continue
            out.append(" " + unicodedata.name(c, "").lower() + " " if _is_emoji(c) else c)
        text = "".join(out)
    return SPACES.sub(" ", text).strip()


def prepare(binary, texts):
    """Returns (judging texts, feature names, feature rows) as the product computes them."""
    lines = "".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(texts))
    run = subprocess.run([str(binary), "prepare"], input=lines.encode("utf-8"),
                         stdout=subprocess.PIPE, check=True)
    rows = [json.loads(line) for line in run.stdout.decode("utf-8").splitlines()]
    if [r["id"] for r in rows] != [str(i) for i in range(len(texts))]:
        raise SystemExit("prepare did not answer every line in order")
    names = list(rows[0]["features"])
    return [r["text"] for r in rows], names, [[float(r["features"][n]) for n in names] for r in rows]


def logits(binary, models, texts, processes=2):
    """For each text the logits by head, before calibration, as the product combines them. A blank text has none."""
    def part(start):
        lines = "".join(json.dumps({"id": str(i), "text": texts[i]}) + "\n" for i in range(start, len(texts), processes))
        run = subprocess.run([str(binary), "--models", str(models), "--consultation", "none", "prepare", "--logits"],
                             input=lines.encode("utf-8"), stdout=subprocess.PIPE, check=True)
        return [(int(r["id"]), r["logits"]) for r in map(json.loads, run.stdout.decode("utf-8").splitlines())]
    with ThreadPoolExecutor(processes) as pool:
        found = dict(one for group in pool.map(part, range(processes)) for one in group)
    return [found[i] for i in range(len(texts))]
