-- Exports walk the comments by position and name them by it, so no two share one.
-- What a broker's senders count may tie; it stays as it came in revisions.sequence.
DROP INDEX comments_by_sequence;
CREATE UNIQUE INDEX comments_by_position ON comments (consultation, sequence);
