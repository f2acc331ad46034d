-- The embedded file: the queue, the comments with their judgements, and what waits to be sent.
-- Times are Unix milliseconds, JSON is TEXT; only key types and indexes differ on PostgreSQL.

-- One row per arrival, kept for ever as the memory of what was seen; a done row keeps no payload.
CREATE TABLE queue (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    consultation    TEXT NOT NULL,
    source          TEXT NOT NULL,
    id              TEXT NOT NULL,
    arrival_key     TEXT NOT NULL,
    payload         TEXT,
    state           TEXT NOT NULL CHECK (state IN ('waiting', 'leased', 'done', 'parked')),
    attempts        BIGINT NOT NULL DEFAULT 0,
    deliveries      BIGINT NOT NULL DEFAULT 0,
    run_at_ms       BIGINT NOT NULL,
    lease_until_ms  BIGINT,
    lease_owner     TEXT,
    last_error      TEXT,
    published_at_ms BIGINT NOT NULL,
    UNIQUE (consultation, source, id, arrival_key)
);
-- Arrivals in order within a state: `receive` walks the waiting ones and never meets the done ones.
CREATE INDEX queue_by_state ON queue (state, sequence);
-- The few that wait for another attempt.
CREATE INDEX queue_tried ON queue (attempts) WHERE state = 'waiting' AND attempts > 0;

-- One row per comment. Without a current revision it is only the memory of a withdrawal
-- that overtook its comment.
CREATE TABLE comments (
    no                 INTEGER PRIMARY KEY,
    consultation       TEXT NOT NULL,
    source             TEXT NOT NULL,
    id                 TEXT NOT NULL,
    current_revision   BIGINT,
    current_assessment BIGINT,
    sequence           BIGINT,
    verdict            TEXT,
    text_hash          TEXT,
    withdrawn_at_ms    BIGINT,
    withdrawn_revision BIGINT,
    UNIQUE (consultation, source, id)
);
CREATE INDEX comments_by_sequence ON comments (consultation, sequence);

-- Every arrival of a comment that was judged, the current one and the earlier ones.
CREATE TABLE revisions (
    no             INTEGER PRIMARY KEY,
    comment_no     BIGINT NOT NULL REFERENCES comments (no),
    arrival_key    TEXT NOT NULL,
    sequence       BIGINT NOT NULL,
    revision       BIGINT,
    edited_at_ms   BIGINT,
    text_hash      TEXT NOT NULL,
    comment        TEXT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    UNIQUE (comment_no, arrival_key)
);
CREATE INDEX revisions_by_text ON revisions (text_hash);

-- Every judgement of a revision, one per pipeline version; never changed.
CREATE TABLE assessments (
    no               INTEGER PRIMARY KEY,
    revision_no      BIGINT NOT NULL REFERENCES revisions (no),
    pipeline_version TEXT NOT NULL,
    verdict          TEXT NOT NULL,
    assessment       TEXT NOT NULL,
    recorded_at_ms   BIGINT NOT NULL,
    UNIQUE (revision_no, pipeline_version)
);

-- Comments that were ever escalated, with the revision and judgement that a person must see.
CREATE TABLE disclosures (
    comment_no         BIGINT PRIMARY KEY REFERENCES comments (no),
    revision_no        BIGINT NOT NULL REFERENCES revisions (no),
    assessment_no      BIGINT NOT NULL REFERENCES assessments (no),
    text_hash          TEXT NOT NULL,
    escalated_at_ms    BIGINT NOT NULL,
    acknowledged_at_ms BIGINT,
    acknowledged_by    TEXT
);

-- Rows that could not become comments.
CREATE TABLE failures (
    no           INTEGER PRIMARY KEY,
    consultation TEXT NOT NULL,
    source       TEXT NOT NULL,
    id           TEXT,
    row_number   BIGINT NOT NULL,
    reason       TEXT NOT NULL,
    detail       TEXT NOT NULL,
    raw          TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    failed_at_ms BIGINT NOT NULL,
    UNIQUE (consultation, source, fingerprint)
);

-- Written in the transaction of its cause, sent afterwards.
CREATE TABLE outbox (
    no            INTEGER PRIMARY KEY,
    event_id      TEXT NOT NULL UNIQUE,
    kind          TEXT NOT NULL,
    body          TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    sent_at_ms    BIGINT
);

-- Facts about the store itself, such as the active pipeline version of a consultation.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
