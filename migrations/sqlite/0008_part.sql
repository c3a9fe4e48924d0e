-- Holds on some people of a wave: whoever is picked is parked, and the rest of the wave goes on. And who said no
-- to a release, and why, for whoever is asked the next time.

-- Which people, and how far they have been sorted out, as JSON; NULL: everybody it covers.
ALTER TABLE hold ADD COLUMN part TEXT;
-- 1 while the people of its wave are still to be sorted because of it, or because of its end.
ALTER TABLE hold ADD COLUMN unsorted BIGINT NOT NULL DEFAULT 0;
CREATE INDEX hold_unsorted ON hold (scope_id, scope_wave) WHERE unsorted = 1;
CREATE INDEX hold_part ON hold (scope_id, scope_wave) WHERE part IS NOT NULL;

ALTER TABLE wave ADD COLUMN parked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN parked BIGINT NOT NULL DEFAULT 0;

-- Who ended the request, when and why, as JSON; NULL: it was not vetoed, or before this was kept.
ALTER TABLE release_request ADD COLUMN veto TEXT;
