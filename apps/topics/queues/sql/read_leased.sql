-- Read jobs that were leased for this process by another one. Called by windows under the queue's lock; indexes
-- topics_job_pkey, the keys of the segments.
SELECT j.seq, j.lease, j.due, e.ts, e.tag, j.deliveries, e.data, e.meta
FROM unnest(%(seqs)s::bigint[], %(leases)s::bigint[]) AS g (seq, lease)
CROSS JOIN LATERAL (
  SELECT * FROM topics_job WHERE topic_id = %(topic_id)s::bigint AND seq = g.seq AND lease = g.lease LIMIT 1
) AS j
CROSS JOIN LATERAL (
  SELECT * FROM topics_event WHERE topic_id = %(topic_id)s::bigint AND seq = g.seq LIMIT 1
) AS e
ORDER BY g.seq
