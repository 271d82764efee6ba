-- The returned jobs of a locked queue that were delivered as often as they may be, and that a claim of `wanted` jobs
-- comes across before it is served (§18.7), with their records, up to `budget` bytes of them. `more`: go on when these
-- are dealt with. Called by dead_letters; indexes job_returned, the keys of the segments.
WITH returned AS MATERIALIZED (
  SELECT j.seq, j.deliveries >= %(exhausted_at)s::int AS is_exhausted
  FROM topics_topic t, LATERAL (
    SELECT r.seq, r.deliveries FROM topics_job r
    WHERE r.topic_id = %(topic_id)s::bigint AND r.state = 0 AND r.seq >= t.earliest
    ORDER BY r.seq
    LIMIT %(chunk)s::int
  ) AS j
  WHERE t.id = %(topic_id)s::bigint
), met AS (
  SELECT r.seq, r.is_exhausted, count(*) FILTER (WHERE NOT r.is_exhausted) OVER w AS others
  FROM returned r
  WINDOW w AS (ORDER BY r.seq ROWS UNBOUNDED PRECEDING)
), summed AS (
  SELECT e.seq, e.tag, e.node, e.data, e.meta, e.size, sum(e.size) OVER w AS total
  FROM met m CROSS JOIN LATERAL (
    SELECT * FROM topics_event WHERE topic_id = %(topic_id)s::bigint AND seq = m.seq LIMIT 1
  ) AS e
  WHERE m.is_exhausted AND m.others < %(wanted)s::bigint
  WINDOW w AS (ORDER BY e.seq ROWS UNBOUNDED PRECEDING)
)
SELECT s.seq, s.tag, s.node, s.data, s.meta, s.size,
       (SELECT count(*) FROM returned) = %(chunk)s::int OR (SELECT max(total) FROM summed) > %(budget)s::bigint AS more
FROM summed s
WHERE s.total - s.size < %(budget)s::bigint
ORDER BY s.seq
