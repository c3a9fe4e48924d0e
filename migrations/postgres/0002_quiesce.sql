-- What a worker says of itself, so that a hold can be judged: where it has people under way whom a hold
-- covers, since when it has seen each of the last epochs, how long a request of it takes, and whether
-- it has ended. NULL: it does not say, which is taken for the worst.
ALTER TABLE worker ADD COLUMN held TEXT;
ALTER TABLE worker ADD COLUMN epochs TEXT;
ALTER TABLE worker ADD COLUMN request_ms BIGINT;
ALTER TABLE worker ADD COLUMN ended_at BIGINT;
