"""The fixed split: by hash of the text, made before anything was trained.

key    = sha256("moothall-split-v1:" + lower-cased, whitespace-collapsed text)
bucket = first 8 hex digits mod 100; dev < 12, calibration 12..21, train the rest.
A set's own `dev` rows are dev too. Dev is never trained or calibrated on.
"""

import hashlib


def key(text):
    plain = " ".join(text.lower().split())
    return hashlib.sha256(("moothall-split-v1:" + plain).encode("utf-8")).hexdigest()


def bucket(k):
    return int(k[:8], 16) % 100


def part(k, own_split=""):
    b = bucket(k)
    if b < 12 or own_split == "dev":
        return "dev"
    return "calibration" if b < 22 else "train"


def perspective_half(row_id):
    """The published Perspective scores are split once: one half to learn and calibrate, one only to report on."""
    h = hashlib.sha256(("moothall-perspective-v1:" + row_id).encode("utf-8")).hexdigest()
    return "calibrate" if int(h[:8], 16) % 2 == 0 else "report"
