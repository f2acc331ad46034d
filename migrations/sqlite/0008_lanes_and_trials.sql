-- What is urgent waits apart; and how often an arrival's process ended while it held it.
ALTER TABLE queue ADD COLUMN lane TEXT NOT NULL DEFAULT 'work' CHECK (lane IN ('work', 'urgent'));
ALTER TABLE queue ADD COLUMN deaths BIGINT NOT NULL DEFAULT 0;
CREATE INDEX queue_urgent ON queue (sequence) WHERE state = 'waiting' AND lane = 'urgent';

-- Comments that are judged alone, with the trials that began and never ended.
CREATE TABLE trials (
    name        TEXT PRIMARY KEY,
    unended     BIGINT NOT NULL,
    began_at_ms BIGINT NOT NULL
);
