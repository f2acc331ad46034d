-- What a message says stands apart from where it is on its way: claiming and marking
-- rewrite small rows only, and what was sent is forgotten later, many at a time.
CREATE TABLE outbox_bodies (
    no   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
);
INSERT INTO outbox_bodies (no, body) SELECT no, body FROM outbox WHERE sent_at_ms IS NULL;
ALTER TABLE outbox DROP COLUMN body;
