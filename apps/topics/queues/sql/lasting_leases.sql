-- Which of these leases last still: one element of seqs and leases for each. Called by rooms, without a lock; index
-- topics_job_pkey.
SELECT j.lease
FROM unnest(%(seqs)s::bigint[], %(leases)s::bigint[]) AS h (seq, lease)
JOIN topics_job j ON j.topic_id = %(topic_id)s::bigint AND j.seq = h.seq AND j.lease = h.lease
WHERE j.due > %(now)s::bigint
