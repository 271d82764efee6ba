-- Count the blobs that no object has; `most` at most: a count reads what it counts. Called by metrics.series.
-- Index: leftover_due.
SELECT count(*) AS leftovers FROM (SELECT FROM storage_leftover LIMIT %(most)s::int) AS counted
