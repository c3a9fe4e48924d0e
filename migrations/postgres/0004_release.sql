-- The release of a halt: what must be true, who asked, who said yes, and what was looked at last.

-- The person behind a token: two tokens of one person are one person. NULL: the token's own name.
ALTER TABLE api_token ADD COLUMN person TEXT;

-- What the release of a halt needs, where it differs from the defaults.
CREATE TABLE hold_terms (
    hold_id    TEXT   NOT NULL PRIMARY KEY,
    body       TEXT   NOT NULL
);

CREATE TABLE requirement (
    id         TEXT   NOT NULL PRIMARY KEY,
    hold_id    TEXT   NOT NULL,
    number     BIGINT NOT NULL,
    body       TEXT   NOT NULL,
    generation BIGINT NOT NULL
);
CREATE UNIQUE INDEX requirement_number ON requirement (hold_id, number);

CREATE TABLE release_request (
    id         TEXT   NOT NULL PRIMARY KEY,
    hold_id    TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    reason     TEXT   NOT NULL,
    seat       TEXT   NOT NULL,
    substance  TEXT   NOT NULL,
    ended      TEXT
);
CREATE INDEX release_request_hold ON release_request (hold_id, at);

-- One person counts once.
CREATE TABLE release_approval (
    request_id TEXT   NOT NULL,
    person     TEXT   NOT NULL,
    token      TEXT   NOT NULL,
    seat       TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (request_id, person)
);

-- The last preflight of a halt: what cannot be looked at again inside a transaction.
CREATE TABLE preflight (
    hold_id    TEXT   NOT NULL PRIMARY KEY,
    at         BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
