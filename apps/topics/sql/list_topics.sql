-- List topics by name from behind `after`, within any of the ranges [low, high) of names, which don't overlap. Called by
-- descriptions.list_topics; index topic_once_per_name, once per range.
SELECT t.*
FROM unnest(%(lows)s::text[], %(highs)s::text[]) AS r (low, high)
CROSS JOIN LATERAL (
  SELECT id, name, head, earliest, count, bytes, durability, priority, auto_priority, last_consumed_ts,
         (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false))
           OR NOT EXISTS (SELECT FROM topics_intact) AS unsettled
  FROM topics_topic
  WHERE name > %(after)s::text AND name >= r.low AND name < r.high
  ORDER BY name
  LIMIT %(limit)s::int
) AS t
ORDER BY t.name
LIMIT %(limit)s::int
