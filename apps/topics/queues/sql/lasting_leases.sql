-- Which of these leases last still: one element of seqs and leases for each. Called by rooms, without a lock; index
-- topics_job_pkey.
SELECT j.lease
FROM unnest(%(seqs)s::bigint[], %(leases)s::bigint[]) AS h (seq, lease)
CROSS JOIN LATERAL (
  SELECT * FROM topics_job WHERE topic_id = %(topic_id)s::bigint AND seq = h.seq LIMIT 1
) AS j
WHERE j.lease = h.lease AND j.due > %(now)s::bigint
