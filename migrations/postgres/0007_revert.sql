-- Taking people back: a rollout of its own, whose people are those moved by chosen waves of another one.

-- The rollout whose people this one takes back; NULL: it moves people.
ALTER TABLE rollout ADD COLUMN reverts TEXT;
CREATE INDEX rollout_reverts ON rollout (reverts) WHERE reverts IS NOT NULL;

-- How many reverts under way take people of this wave back: nobody of it is begun meanwhile.
ALTER TABLE wave ADD COLUMN taking_back BIGINT NOT NULL DEFAULT 0;

-- What was asked for, by whom, and what the approvals are bound to; they are kept with those of releases.
CREATE TABLE revert (
    rollout_id TEXT   NOT NULL PRIMARY KEY,
    request_id TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    seat       TEXT   NOT NULL,
    substance  TEXT   NOT NULL,
    -- The sheet: chosen waves, counts, holds.
    body       TEXT   NOT NULL,
    ended      TEXT
);

-- The batch of the original that the people of each batch are in: one, so that an outcome changes one row there.
CREATE TABLE revert_batch (
    rollout_id  TEXT   NOT NULL,
    wave_no     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    origin_wave BIGINT NOT NULL,
    origin_seq  BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, wave_no, seq)
);
