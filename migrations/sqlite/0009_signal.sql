-- What others report, the policy sets that judge it, and what was held because of it.

-- One row: the number of the last signal. Whoever admits signals counts it up first, so that numbers are
-- given out in the order of the commits.
CREATE TABLE signal_head (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq BIGINT  NOT NULL
);
INSERT INTO signal_head (id, seq) VALUES (1, 0);

-- Every signal that was admitted. Rows are never deleted: what was seen once is known for ever.
CREATE TABLE signal (
    seq         BIGINT NOT NULL PRIMARY KEY,
    id          TEXT   NOT NULL UNIQUE,
    source      TEXT   NOT NULL,
    -- SHA-256 of the id at the source and its revision.
    known_by    TEXT   NOT NULL,
    received_at BIGINT NOT NULL,
    vendor      TEXT,
    kind        TEXT   NOT NULL,
    severity    TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    -- What rules made of it; NULL: it has not been judged, or no rule applied.
    outcome     TEXT
);
CREATE UNIQUE INDEX signal_known ON signal (source, known_by);
CREATE INDEX signal_received ON signal (received_at);

-- The bytes that signals were read from, by their digest.
CREATE TABLE signal_raw (
    digest      TEXT   NOT NULL PRIMARY KEY,
    body        BLOB   NOT NULL,
    received_at BIGINT NOT NULL
);

-- Every version of every policy set. Old ones are kept: a decision names the digest that it was made by.
CREATE TABLE policy_set (
    id            TEXT   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    format        TEXT   NOT NULL,
    text          TEXT   NOT NULL,
    digest        TEXT   NOT NULL,
    -- draft, active or replaced.
    status        TEXT   NOT NULL,
    author        TEXT   NOT NULL,
    -- Who said yes and when, as JSON.
    approvals     TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    activated_at  BIGINT
);
CREATE UNIQUE INDEX policy_set_version ON policy_set (name, version);
CREATE UNIQUE INDEX policy_set_active ON policy_set (status) WHERE status = 'active';

-- One row: how far signals have been judged, and how often what is known of targets has changed.
CREATE TABLE policy_state (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    judged_seq BIGINT  NOT NULL,
    facts_rev  BIGINT  NOT NULL
);
INSERT INTO policy_state (id, judged_seq, facts_rev) VALUES (1, 0, 0);

-- What rules know of a target, as JSON.
CREATE TABLE target_facts (
    target_id TEXT NOT NULL PRIMARY KEY,
    body      TEXT NOT NULL
);

-- Of a hold that a rule placed: what was reported, from the first signal to the last.
CREATE TABLE hold_report (
    hold_id   TEXT   NOT NULL PRIMARY KEY,
    rule      TEXT   NOT NULL,
    target_id TEXT   NOT NULL,
    signals   BIGINT NOT NULL,
    worst     TEXT   NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq  BIGINT NOT NULL
);
CREATE INDEX hold_report_rule ON hold_report (rule, target_id);
