-- Read the marks of the first topics by name. Called by vitals.metrics; index topic_once_per_name.
SELECT id, name, kind, head, earliest, earliest_ts, count, bytes,
       (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
         AS unsettled
FROM topics_topic
ORDER BY name
LIMIT %(limit)s::int
