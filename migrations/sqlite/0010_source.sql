-- Who may report without a token: by a signature that is checked.

CREATE TABLE signal_source (
    name       TEXT   NOT NULL PRIMARY KEY,
    -- How what it sends is signed and written: standard_webhooks, github or stripe.
    profile    TEXT   NOT NULL,
    -- Keys by reference, vendor and products, as JSON.
    config     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it was taken out of use: its name stays taken, for what it sent is known by it.
    revoked_at BIGINT
);
