-- Read the next records of a topic as rows, with the topic's marks, in one snapshot; an empty topic gives one row
-- without a record. Called by queries.read_after; indexes topic_once_per_name, the keys of the segments.
WITH topic AS (
  SELECT id, head, earliest, cap_floor, ttl_floor, source_floor,
         -- Nothing is read until retention, or what a crash of Postgres left, has been written down (B.4, B.12).
         (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
           AS unsettled,
         CASE WHEN %(after)s::bigint > head THEN earliest - 1 ELSE greatest(%(after)s::bigint, earliest - 1) END AS start
  FROM topics_topic
  WHERE name = %(name)s::text
)
SELECT t.id, t.head, t.earliest, t.cap_floor, t.ttl_floor, t.source_floor, t.unsettled, t.start,
       e.seq, e.ts, e.kind, e.tag, e.node, e.data, e.meta
FROM topic t
LEFT JOIN LATERAL (
  SELECT seq, ts, kind, tag, node, data, meta FROM topics_event
  WHERE topic_id = t.id AND seq > t.start AND seq <= t.head AND NOT t.unsettled
  ORDER BY seq
  LIMIT %(limit)s::int
) AS e ON true
ORDER BY e.seq
