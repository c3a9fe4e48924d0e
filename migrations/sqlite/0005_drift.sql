-- What a long stop makes of a population: who left, joined and moved, and what becomes of each.

-- People who stand in another wave now keep their old slot, which counts them no longer.
ALTER TABLE wave ADD COLUMN transferred BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN transferred BIGINT NOT NULL DEFAULT 0;
-- The first batch that was added after the start; NULL: none was.
ALTER TABLE wave ADD COLUMN late_from BIGINT;

-- Where the store was last served from: cluster and timeline on PostgreSQL, nothing on SQLite.
ALTER TABLE installation ADD COLUMN home TEXT;

-- One measurement: a rollout's people then, beside the population now. Immutable but for its status.
CREATE TABLE drift (
    id             TEXT   NOT NULL PRIMARY KEY,
    rollout_id     TEXT   NOT NULL,
    status         TEXT   NOT NULL,
    from_version_id TEXT  NOT NULL,
    to_version_id  TEXT   NOT NULL,
    plan_id        TEXT   NOT NULL,
    digest         TEXT   NOT NULL,
    -- The rollout as it was measured; when it differs now, the measurement is stale.
    basis          TEXT   NOT NULL,
    report         TEXT   NOT NULL,
    created_at     BIGINT NOT NULL
);
CREATE INDEX drift_rollout ON drift (rollout_id, created_at);

-- Who: ordinals of one class, packed like a roster, 1,024 at a time.
CREATE TABLE drift_people (
    drift_id TEXT   NOT NULL,
    class    TEXT   NOT NULL,
    chunk_no BIGINT NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (drift_id, class, chunk_no)
);

-- What becomes of the slots of one batch; removed in the transaction that carries it out.
CREATE TABLE drift_batch (
    drift_id TEXT   NOT NULL,
    wave_no  BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (drift_id, wave_no, seq)
);
