-- Read the records of a dead-letter topic whose meta holds the stamp of a queue, at most `limit` of the next `window`
-- records, of `seqs` only unless null; one row without a record if there is none. `is_full`: there may be more behind the
-- last one, else the look came to `scanned_to`. Called by queries.read_dead_letters; indexes topic_once_per_name, the
-- keys of the segments.
WITH topic AS MATERIALIZED (
  SELECT id, head, earliest FROM topics_topic WHERE name = %(name)s::text
), scanned AS MATERIALIZED (
  SELECT e.* FROM topic t CROSS JOIN LATERAL (
    SELECT r.seq, r.ts, r.tag, r.node, r.data, r.meta FROM topics_event r
    WHERE r.topic_id = t.id AND r.seq >= t.earliest AND r.seq > %(after)s::bigint AND r.seq <= t.head
      AND (%(seqs)s::bigint[] IS NULL OR r.seq = ANY (%(seqs)s::bigint[]))
    ORDER BY r.seq
    LIMIT %(window)s::int
  ) AS e
), letters AS (
  SELECT s.* FROM scanned s
  WHERE strpos(s.meta, %(origin)s::text) > 0
  ORDER BY s.seq
  LIMIT %(limit)s::int
)
SELECT t.id AS topic_id, t.head,
       CASE WHEN (SELECT count(*) FROM scanned) < %(window)s::int THEN t.head ELSE (SELECT max(seq) FROM scanned) END
         AS scanned_to,
       (SELECT count(*) FROM letters) = %(limit)s::int AS is_full,
       l.seq, l.ts, l.tag, l.node, l.data, l.meta
FROM topic t
LEFT JOIN letters l ON true
ORDER BY l.seq
