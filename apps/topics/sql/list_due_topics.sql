-- List topics of which the oldest record has expired, or that are over a cap because whoever lowered it died before it was
-- done; longest overdue first. Called by disk.sweep and eviction; reads every topic.
SELECT name FROM topics_topic
WHERE (ttl_ms > 0 AND earliest_ts < %(now)s::bigint - ttl_ms)
   OR (discard = 'old' AND ((cap_records > 0 AND count > cap_records) OR (cap_bytes > 0 AND bytes > cap_bytes)))
ORDER BY earliest_ts + ttl_ms
LIMIT %(limit)s::int
