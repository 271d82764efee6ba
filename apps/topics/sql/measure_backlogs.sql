-- How far readers are behind: for each topic and the seq that was read last, the newest seq and the oldest record after it.
-- A topic that isn't there has no row. Called by queries.backlogs; indexes topic_once_per_name, the keys of the segments.
SELECT w.place, t.id, t.name, t.head, e.ts,
       (t.ttl_ms > 0 AND coalesce(t.earliest_ts < %(now)s::bigint - t.ttl_ms, false))
         OR NOT EXISTS (SELECT FROM topics_intact)
         OR (t.is_fed AND topics_is_owed(t.id)) AS unsettled
FROM unnest(%(names)s::text[], %(positions)s::bigint[]) WITH ORDINALITY AS w (name, position, place)
JOIN topics_topic t ON t.name = w.name
LEFT JOIN LATERAL (
  SELECT ts FROM topics_event
  WHERE topic_id = t.id AND seq > greatest(w.position, t.earliest - 1) AND seq <= t.head
  ORDER BY seq
  LIMIT 1
) AS e ON true
