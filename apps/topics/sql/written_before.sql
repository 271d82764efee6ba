-- How much had been written to a topic at moments (ms): the newest record before each, found by bisection, and the bytes of
-- all records up to it. `first` is the oldest record on disk, dead ones included; what was before it nobody can tell.
-- Deleted records count with the next one that is left. Called by vitals.throughput; index: the keys of the segments.
WITH RECURSIVE topic AS MATERIALIZED (
  SELECT t.head, coalesce(f.seq, t.head + 1) AS first_seq, f.ts AS first_ts,
         coalesce(f.total - f.size, t.written) AS bytes_before
  FROM topics_topic t
  LEFT JOIN LATERAL (
    SELECT seq, ts, total, size FROM topics_event WHERE topic_id = %(topic_id)s::bigint ORDER BY seq LIMIT 1
  ) AS f ON true
  WHERE t.id = %(topic_id)s::bigint
), search (place, moment, low, high) AS (
  -- Up to `low` all is before the moment, behind `high` nothing.
  SELECT m.place, m.moment, t.first_seq - 1, t.head
  FROM topic t, unnest(%(moments)s::bigint[]) WITH ORDINALITY AS m (moment, place)
UNION ALL
  SELECT p.place, p.moment,
         CASE WHEN p.ts < p.moment THEN p.found ELSE p.low END,
         CASE WHEN p.ts < p.moment THEN p.high ELSE p.middle END
  FROM (
    SELECT s.place, s.moment, s.low, s.high, (s.low + s.high) / 2 AS middle, e.seq AS found, e.ts
    FROM search s
    LEFT JOIN LATERAL (
      SELECT seq, ts FROM topics_event
      WHERE topic_id = %(topic_id)s::bigint AND seq > (s.low + s.high) / 2
      ORDER BY seq
      LIMIT 1
    ) AS e ON true
    WHERE s.low < s.high
  ) AS p
)
SELECT s.place, s.low AS seq, coalesce(e.total, t.bytes_before) AS bytes,
       t.first_seq = 1 OR coalesce(s.moment > t.first_ts, false) AS is_known
FROM search s
CROSS JOIN topic t
-- One look-up each; as a plain join Postgres may take it into its head to read the topic.
LEFT JOIN LATERAL (
  SELECT total FROM topics_event WHERE topic_id = %(topic_id)s::bigint AND seq = s.low LIMIT 1
) AS e ON true
WHERE s.low >= s.high
ORDER BY s.place
