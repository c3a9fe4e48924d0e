-- What may go on although holds are in force, and the emergencies that let it.

-- Named waves of a rollout that go on under named holds until an instant. Its end is a comparison with the
-- clock; `ended_epoch` is written afterwards, so that the holds can be proved quiet again.
CREATE TABLE exemption (
    id          TEXT   NOT NULL PRIMARY KEY,
    rollout_id  TEXT   NOT NULL,
    -- The same exemption with its holds and waves, as JSON.
    body        TEXT   NOT NULL,
    began_epoch BIGINT NOT NULL,
    ended_at    BIGINT,
    ended_epoch BIGINT
);
CREATE INDEX exemption_open ON exemption (id) WHERE ended_at IS NULL;

-- Every emergency go-on that was ever asked for. Rows are never deleted.
CREATE TABLE emergency (
    id         TEXT   NOT NULL PRIMARY KEY,
    rollout_id TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
CREATE INDEX emergency_at ON emergency (at);
