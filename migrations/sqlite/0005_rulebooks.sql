-- Rulebooks that the store has met, with their small files, so that one can be written back.
CREATE TABLE rulebooks (
    no               INTEGER PRIMARY KEY,
    consultation     TEXT NOT NULL,
    pipeline_version TEXT NOT NULL,
    parts            TEXT NOT NULL,
    kept_at_ms       BIGINT NOT NULL,
    UNIQUE (consultation, pipeline_version)
);
-- One row per time that a rulebook was made the active one; the active one itself stands in meta.
CREATE TABLE rulebook_adoptions (
    no               INTEGER PRIMARY KEY,
    consultation     TEXT NOT NULL,
    pipeline_version TEXT NOT NULL,
    adopted_at_ms    BIGINT NOT NULL
);
-- Contents by their SHA-256: most rulebooks share most of their files.
CREATE TABLE rulebook_contents (
    sha256  TEXT PRIMARY KEY,
    content BLOB NOT NULL
);
CREATE TABLE rulebook_files (
    rulebook_no BIGINT NOT NULL REFERENCES rulebooks (no),
    path        TEXT NOT NULL,
    sha256      TEXT NOT NULL REFERENCES rulebook_contents (sha256),
    PRIMARY KEY (rulebook_no, path)
);

-- What people decided about a text. A later decision on the same text stands above an earlier one.
CREATE TABLE decisions (
    no            INTEGER PRIMARY KEY,
    comment_no    BIGINT NOT NULL REFERENCES comments (no),
    text_hash     TEXT NOT NULL,
    verdict       TEXT NOT NULL,
    decided_by    TEXT NOT NULL,
    decided_at_ms BIGINT NOT NULL
);
CREATE INDEX decisions_by_text ON decisions (comment_no, text_hash, no);

-- A text that was escalated stays so until a person releases it, whatever a later rulebook says.
UPDATE comments SET verdict = 'escalate' WHERE current_revision IS NOT NULL AND EXISTS (
    SELECT 1 FROM disclosures d WHERE d.comment_no = comments.no AND d.text_hash = comments.text_hash);
