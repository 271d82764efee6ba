-- List topics of which the oldest record has expired, longest overdue first. Called by disk.sweep and eviction; reads every topic.
SELECT name FROM topics_topic
WHERE ttl_ms > 0 AND earliest_ts < %(now)s::bigint - ttl_ms
ORDER BY earliest_ts + ttl_ms
LIMIT %(limit)s::int
