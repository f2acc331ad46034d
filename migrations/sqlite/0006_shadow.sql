-- Judgements of a rulebook that only looks on. Nothing but its own report reads them.
CREATE TABLE shadow_assessments (
    revision_no      BIGINT NOT NULL REFERENCES revisions (no),
    pipeline_version TEXT NOT NULL,
    assessment       TEXT NOT NULL,
    judged_at_ms     BIGINT NOT NULL,
    PRIMARY KEY (revision_no, pipeline_version)
);
