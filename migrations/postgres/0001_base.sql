-- The base schema: who exists, where they go, the ledger, holds, and the audit trail.
-- Conventions (both dialects): ids are hyphenated UUIDs in TEXT, instants are BIGINT milliseconds
-- since 1970-01-01 UTC, documents are JSON in TEXT, packed formats are BYTEA with a version byte.

-- One row: the identity of this store and the number that fences stale work.
CREATE TABLE installation (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    instance_id TEXT    NOT NULL,
    epoch       BIGINT  NOT NULL,
    created_at  BIGINT  NOT NULL
);

-- Append-only and hash-linked; written in the transaction of the change it records.
CREATE TABLE audit (
    seq        BIGINT NOT NULL PRIMARY KEY,
    at         BIGINT NOT NULL,
    actor      TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    request_id TEXT,
    detail     TEXT   NOT NULL,
    data       BYTEA,
    prev_hash  BYTEA   NOT NULL,
    hash       BYTEA   NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, seq);

-- One row: the tail of the audit chain; locked by whoever appends.
CREATE TABLE audit_head (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq  BIGINT  NOT NULL,
    hash BYTEA    NOT NULL
);

CREATE TABLE population (
    id                 TEXT   NOT NULL PRIMARY KEY,
    name               TEXT   NOT NULL UNIQUE,
    mapping            TEXT   NOT NULL,
    current_version_id TEXT,
    generation         BIGINT NOT NULL,
    created_at         BIGINT NOT NULL
);

-- An immutable snapshot of who exists. Staged, then published in one update.
CREATE TABLE population_version (
    id             TEXT   NOT NULL PRIMARY KEY,
    population_id  TEXT   NOT NULL,
    number         BIGINT NOT NULL,
    status         TEXT   NOT NULL,
    member_count   BIGINT NOT NULL,
    source_digest  TEXT,
    content_digest TEXT,
    columns        TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    published_at   BIGINT
);
CREATE INDEX population_version_population ON population_version (population_id, number);

-- Members in file order, packed column by column: member `o` is in block o / 4096.
CREATE TABLE population_block (
    version_id TEXT   NOT NULL,
    block_no   BIGINT NOT NULL,
    body       BYTEA   NOT NULL,
    PRIMARY KEY (version_id, block_no)
);

-- Distinct values of one attribute in order of their code; long ones continue in further chunks.
CREATE TABLE population_dictionary (
    version_id TEXT   NOT NULL,
    attribute  TEXT   NOT NULL,
    chunk_no   BIGINT NOT NULL,
    body       BYTEA   NOT NULL,
    PRIMARY KEY (version_id, attribute, chunk_no)
);

-- Key digest -> ordinal, packed and sorted, one bucket per range of digests.
CREATE TABLE population_key (
    version_id TEXT   NOT NULL,
    bucket_no  BIGINT NOT NULL,
    body       BYTEA   NOT NULL,
    PRIMARY KEY (version_id, bucket_no)
);

CREATE TABLE population_import (
    id            TEXT   NOT NULL PRIMARY KEY,
    population_id TEXT   NOT NULL,
    version_id    TEXT,
    status        TEXT   NOT NULL,
    report        TEXT   NOT NULL,
    started_at    BIGINT NOT NULL,
    finished_at   BIGINT
);
CREATE INDEX population_import_population ON population_import (population_id, started_at);

CREATE TABLE target (
    id           TEXT   NOT NULL PRIMARY KEY,
    name         TEXT   NOT NULL UNIQUE,
    connector    TEXT   NOT NULL,
    config       TEXT   NOT NULL,
    capability   TEXT,
    checked_at   BIGINT,
    -- Theoretical arrival time of the rate limiter (GCRA), microseconds since 1970.
    rate_tat_us  BIGINT NOT NULL,
    -- Nobody claims for this target before this instant (Retry-After).
    closed_until BIGINT NOT NULL,
    generation   BIGINT NOT NULL,
    created_at   BIGINT NOT NULL
);

CREATE TABLE rollout (
    id            TEXT   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL UNIQUE,
    population_id TEXT   NOT NULL,
    target_id     TEXT   NOT NULL,
    spec_format   TEXT   NOT NULL,
    spec_text     TEXT   NOT NULL,
    spec_digest   TEXT   NOT NULL,
    lifecycle     TEXT   NOT NULL,
    state         TEXT   NOT NULL,
    plan_id       TEXT,
    -- Next planner pass; NULL when nothing is due.
    wake_at       BIGINT,
    generation    BIGINT NOT NULL,
    created_at    BIGINT NOT NULL
);
CREATE INDEX rollout_wake ON rollout (wake_at);

CREATE TABLE plan (
    id                    TEXT   NOT NULL PRIMARY KEY,
    rollout_id            TEXT   NOT NULL,
    population_version_id TEXT   NOT NULL,
    spec_digest           TEXT   NOT NULL,
    digest                TEXT   NOT NULL,
    body                  TEXT   NOT NULL,
    created_at            BIGINT NOT NULL
);
CREATE INDEX plan_rollout ON plan (rollout_id, created_at);

-- The frozen rosters of a plan, already cut into batches.
CREATE TABLE plan_roster (
    plan_id     TEXT   NOT NULL,
    wave_no     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    ordinal_min BIGINT NOT NULL,
    ordinal_max BIGINT NOT NULL,
    roster      BYTEA   NOT NULL,
    PRIMARY KEY (plan_id, wave_no, seq)
);

-- Counts of a wave, moved by the same transactions that move its batches.
CREATE TABLE wave (
    rollout_id TEXT   NOT NULL,
    wave_no    BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    -- 1 while batches of this wave may be claimed (the planner's decision), else 0.
    claimable  BIGINT NOT NULL,
    -- No claim at or after this instant (end of the window); NULL: no end.
    claim_until BIGINT,
    -- How many of its people may have been begun in all (the tranche of a ramp); NULL: everybody.
    begin_at_most BIGINT,
    size       BIGINT NOT NULL,
    queued     BIGINT NOT NULL,
    in_flight  BIGINT NOT NULL,
    awaiting   BIGINT NOT NULL,
    done       BIGINT NOT NULL,
    failed     BIGINT NOT NULL,
    retry      BIGINT NOT NULL,
    unknown    BIGINT NOT NULL,
    skipped    BIGINT NOT NULL,
    departed   BIGINT NOT NULL,
    reverting  BIGINT NOT NULL,
    reverted   BIGINT NOT NULL,
    review     BIGINT NOT NULL,
    adopted    BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, wave_no)
);

-- At most 1,024 people: the unit of leasing and of writing.
CREATE TABLE batch (
    rollout_id  TEXT   NOT NULL,
    wave_no     BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    ordinal_min BIGINT NOT NULL,
    ordinal_max BIGINT NOT NULL,
    roster      BYTEA   NOT NULL,
    slots       BYTEA   NOT NULL,
    queued      BIGINT NOT NULL,
    in_flight   BIGINT NOT NULL,
    awaiting    BIGINT NOT NULL,
    done        BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    retry       BIGINT NOT NULL,
    unknown     BIGINT NOT NULL,
    skipped     BIGINT NOT NULL,
    departed    BIGINT NOT NULL,
    reverting   BIGINT NOT NULL,
    reverted    BIGINT NOT NULL,
    review      BIGINT NOT NULL,
    adopted     BIGINT NOT NULL,
    -- When there is next something to claim: 0 now, lease end while leased, NULL never.
    ready_at    BIGINT,
    lease_owner TEXT,
    lease_until BIGINT,
    fence       BIGINT NOT NULL,
    epoch       BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, wave_no, seq)
);
CREATE INDEX batch_ready ON batch (rollout_id, wave_no, ready_at, seq) WHERE ready_at IS NOT NULL;
CREATE INDEX batch_ordinal ON batch (rollout_id, wave_no, ordinal_min);

-- Storage grows with trouble, not with success: one row per person who failed or needs review.
CREATE TABLE failure (
    rollout_id TEXT   NOT NULL,
    ordinal    BIGINT NOT NULL,
    wave_no    BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    code       TEXT   NOT NULL,
    message    TEXT   NOT NULL,
    attempts   BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, ordinal)
);

-- What a target called our people: packed record ids, one row per recorded outcome.
CREATE TABLE receipt (
    rollout_id TEXT   NOT NULL,
    wave_no    BIGINT NOT NULL,
    seq        BIGINT NOT NULL,
    fence      BIGINT NOT NULL,
    part       BIGINT NOT NULL,
    body       BYTEA   NOT NULL,
    PRIMARY KEY (rollout_id, wave_no, seq, fence, part)
);

CREATE TABLE wave_approval (
    rollout_id  TEXT   NOT NULL,
    wave_no     BIGINT NOT NULL,
    principal   TEXT   NOT NULL,
    plan_digest TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (rollout_id, wave_no, principal)
);

-- A dated reason not to go on. Rows are never deleted; a released hold keeps its row.
CREATE TABLE hold (
    id             TEXT   NOT NULL PRIMARY KEY,
    kind           TEXT   NOT NULL,
    scope_kind     TEXT   NOT NULL,
    -- '' for everything, else the id of the target or rollout.
    scope_id       TEXT   NOT NULL,
    -- 0 unless the scope is a wave.
    scope_wave     BIGINT NOT NULL,
    cause          TEXT   NOT NULL,
    reason         TEXT   NOT NULL,
    owner          TEXT   NOT NULL,
    effect         TEXT   NOT NULL,
    placed_by      TEXT   NOT NULL,
    placed_at      BIGINT NOT NULL,
    placed_epoch   BIGINT NOT NULL,
    review_at      BIGINT,
    released_by    TEXT,
    released_at    BIGINT,
    released_epoch BIGINT,
    release_reason TEXT,
    generation     BIGINT NOT NULL
);
CREATE INDEX hold_in_force ON hold (scope_kind, scope_id) WHERE released_at IS NULL;

CREATE TABLE api_token (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL UNIQUE,
    role       TEXT   NOT NULL,
    hash       BYTEA   NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE idempotency_key (
    principal    TEXT   NOT NULL,
    key          TEXT   NOT NULL,
    request_hash BYTEA   NOT NULL,
    -- 0 while the first request is still running.
    status       BIGINT NOT NULL,
    headers      TEXT   NOT NULL,
    body         BYTEA,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);

-- The processes that send: which epoch each has seen, and how much it has in flight.
CREATE TABLE worker (
    id         TEXT   NOT NULL PRIMARY KEY,
    name       TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    epoch      BIGINT NOT NULL,
    in_flight  BIGINT NOT NULL
);

-- Packed formats are dense already: keep them out of line and do not spend time compressing them.
ALTER TABLE population_block ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE population_key ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE plan_roster ALTER COLUMN roster SET STORAGE EXTERNAL;
ALTER TABLE batch ALTER COLUMN roster SET STORAGE EXTERNAL;
ALTER TABLE batch ALTER COLUMN slots SET STORAGE EXTERNAL;
