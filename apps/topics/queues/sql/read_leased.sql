-- Read jobs that were leased for this process by another one. Called by windows under the queue's lock; indexes
-- topics_job_pkey, the keys of the segments.
SELECT j.seq, j.lease, j.due, e.ts, e.tag, j.deliveries, e.data, e.meta
FROM unnest(%(seqs)s::bigint[], %(leases)s::bigint[]) AS g (seq, lease)
JOIN topics_job j ON j.topic_id = %(topic_id)s::bigint AND j.seq = g.seq AND j.lease = g.lease
JOIN topics_event e ON e.topic_id = %(topic_id)s::bigint AND e.seq = g.seq
ORDER BY g.seq
