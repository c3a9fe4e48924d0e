-- When whoever should look at a hold is reminded next, and how many people it stopped when it was placed.

-- NULL: nobody is reminded.
ALTER TABLE hold ADD COLUMN review_nag_at BIGINT;
-- As JSON; NULL: they were not counted then.
ALTER TABLE hold ADD COLUMN head_count TEXT;

-- A hold of people that was placed without a date is looked at as if it had been placed now, so that an
-- upgrade makes no review overdue.
UPDATE hold SET review_at = CAST(strftime('%s', 'now') AS BIGINT) * 1000
    + CASE kind WHEN 'halt' THEN 30 ELSE 7 END * 86400000
    WHERE review_at IS NULL AND released_at IS NULL AND kind IN ('halt', 'pause');
UPDATE hold SET review_nag_at = review_at WHERE released_at IS NULL;

-- The one look that finds whether anything is due; what has no date is not in it.
CREATE INDEX hold_review ON hold (review_nag_at) WHERE released_at IS NULL AND review_nag_at IS NOT NULL;
