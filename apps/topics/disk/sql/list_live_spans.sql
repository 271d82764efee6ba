-- List the topics with live records in a segment and at most how many each has there, by the span of their seqs; `total`
-- adds them up, and the list ends when that is more than `most`. Called by disk.remnants; steps from topic to topic along
-- the segment's key.
WITH RECURSIVE step (topic_id, records, total) AS (
  SELECT (-9223372036854775808)::bigint, 0::bigint, 0::bigint
UNION ALL
  SELECT n.topic_id, l.records, s.total + l.records
  FROM step s
  CROSS JOIN LATERAL (
    SELECT e.topic_id FROM {segment} e WHERE e.topic_id > s.topic_id ORDER BY e.topic_id LIMIT 1
  ) AS n
  CROSS JOIN LATERAL (
    SELECT min(e.seq) AS first, max(e.seq) AS last FROM {segment} e WHERE e.topic_id = n.topic_id
  ) AS span
  LEFT JOIN topics_topic t ON t.id = n.topic_id
  CROSS JOIN LATERAL (
    -- The records of a deleted topic are dead.
    SELECT coalesce(greatest(span.last - greatest(span.first, t.earliest) + 1, 0), 0) * (t.id IS NOT NULL)::int
      AS records
  ) AS l
  WHERE s.total <= {most}
)
SELECT topic_id, records, total FROM step WHERE records > 0 ORDER BY total
