-- Which target takes messages of which kind, from its first day on.
CREATE TABLE webhook_subscriptions (
    target   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (target, kind)
);

-- One call for each message and target: a message is told to each of them by itself.
CREATE TABLE webhook_calls (
    no             INTEGER PRIMARY KEY,
    message_no     BIGINT NOT NULL REFERENCES outbox (no),
    target         TEXT NOT NULL,
    kind           TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'parked')),
    attempts       BIGINT NOT NULL DEFAULT 0,
    run_at_ms      BIGINT NOT NULL,
    lease_owner    TEXT,
    lease_until_ms BIGINT,
    last_error     TEXT,
    ended_at_ms    BIGINT,
    UNIQUE (message_no, target)
);
-- What is to be tried next, of each target and kind.
CREATE INDEX webhook_calls_due ON webhook_calls (target, kind, run_at_ms, no) WHERE state = 'waiting';
-- Messages whose bodies are still needed.
CREATE INDEX webhook_calls_open ON webhook_calls (message_no) WHERE state <> 'delivered';

-- In the transaction that writes the message, whichever way it is written: nobody can forget a target.
CREATE TRIGGER outbox_calls_webhooks AFTER INSERT ON outbox BEGIN
    INSERT INTO webhook_calls (message_no, target, kind, state, run_at_ms)
    SELECT NEW.no, s.target, s.kind, 'waiting', NEW.created_at_ms
    FROM webhook_subscriptions s WHERE s.kind = NEW.kind;
END;
