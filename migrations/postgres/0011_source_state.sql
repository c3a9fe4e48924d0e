-- How it stands with each source: when it was last heard, and whether it has fallen silent.

CREATE TABLE signal_source_state (
    name         TEXT   NOT NULL PRIMARY KEY,
    -- When something that proves itself last came from it, or it was last asked with success.
    heard_at     BIGINT NOT NULL,
    -- When it is to be asked next, of sources that we ask; whoever moves it on asks.
    due_at       BIGINT NOT NULL,
    -- Where the next question goes on, as the profile writes it.
    progress     TEXT,
    -- How many questions in a row had no answer that can be read, and what was wrong with the last.
    failures     BIGINT NOT NULL,
    trouble      TEXT,
    -- Why it says itself that it sends nothing; NULL: it does not.
    stopped      TEXT,
    -- Since when it is blind, and why; NULL: it is heard.
    blind_since  BIGINT,
    blind_why    TEXT,
    -- When it was last found to be heard again.
    recovered_at BIGINT
);
INSERT INTO signal_source_state (name, heard_at, due_at, failures)
SELECT name, created_at, created_at, 0 FROM signal_source;

-- A target that became another vendor's after something was reported: what was judged by then is judged
-- there once more.
CREATE TABLE target_rejudge (
    target_id TEXT   NOT NULL PRIMARY KEY,
    -- The signals after the first and up to the second.
    since_seq BIGINT NOT NULL,
    until_seq BIGINT NOT NULL
);

-- The last signal of which rules in force have made something at a target: what a release is bound to.
CREATE TABLE target_decided (
    target_id TEXT   NOT NULL PRIMARY KEY,
    seq       BIGINT NOT NULL
);
