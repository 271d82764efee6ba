-- Read how many objects there are in all, and how big, and count the blobs that no object has; of these `most` at most: a
-- count reads what it counts. Called by metrics.series. Indexes: storage_eventclock_pkey, leftover_due.
SELECT coalesce(sum(c.count), 0)::bigint AS objects, coalesce(sum(c.bytes), 0)::bigint AS bytes,
       (SELECT count(*) FROM (SELECT FROM storage_leftover LIMIT %(most)s::int) AS counted) AS leftovers
FROM storage_eventclock c
