-- A message of the outbox belongs to one process at a time while it is being sent.
ALTER TABLE outbox ADD COLUMN lease_owner TEXT;
ALTER TABLE outbox ADD COLUMN lease_until_ms BIGINT;
-- The few that wait to be sent, of each kind in order.
CREATE INDEX outbox_unsent ON outbox (kind, no) WHERE sent_at_ms IS NULL;
