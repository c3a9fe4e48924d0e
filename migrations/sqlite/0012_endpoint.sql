-- Who is told what happens: where to, how far they have been told, and how that goes.

CREATE TABLE endpoint (
    name          TEXT   NOT NULL PRIMARY KEY,
    url           TEXT   NOT NULL,
    -- Keys by reference and the types that are wanted, as JSON.
    config        TEXT   NOT NULL,
    -- active; dead: it has not answered for days; gone: it said so itself; revoked.
    status        TEXT   NOT NULL,
    -- Everything up to this entry of the trail has been told, or was not to be.
    told_seq      BIGINT NOT NULL,
    -- Attempts in a row that failed, the first of them, and what was wrong with the last.
    failures      BIGINT NOT NULL,
    failing_since BIGINT,
    last_error    TEXT,
    -- Nothing is sent before this instant; 0 while nothing fails.
    next_at       BIGINT NOT NULL,
    delivered_at  BIGINT,
    -- Who is telling it something just now, and until when nobody else does.
    lease_owner   TEXT,
    lease_until   BIGINT,
    created_at    BIGINT NOT NULL,
    revoked_at    BIGINT
);
