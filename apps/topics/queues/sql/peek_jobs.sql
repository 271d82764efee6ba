-- Look at the next live jobs of a queue by seq, whatever their state; `state` is null for one that was never delivered.
-- Called by queries.peek_jobs; indexes: the keys of the segments, topics_job_pkey.
SELECT e.seq, e.ts, e.tag, e.data, j.deliveries, j.state, j.due, j.node
FROM topics_topic t
CROSS JOIN LATERAL (
  SELECT r.seq, r.ts, r.tag, r.data FROM topics_event r
  WHERE r.topic_id = %(topic_id)s::bigint AND r.seq >= t.earliest AND r.seq > %(after)s::bigint AND r.seq <= t.head
  ORDER BY r.seq
  LIMIT %(limit)s::int
) AS e
LEFT JOIN LATERAL (
  SELECT * FROM topics_job WHERE topic_id = %(topic_id)s::bigint AND seq = e.seq LIMIT 1
) AS j ON true
WHERE t.id = %(topic_id)s::bigint
ORDER BY e.seq
