-- Which of the jobs that requests name are theirs to decide about: leased, not over, by that node, and under that lease
-- if one is given (§18.2; 0 = none). Each array has one element per named job. Called by passes under the queue's lock;
-- index topics_job_pkey.
SELECT a.place, j.seq, j.state, j.is_pushed
FROM unnest(%(seqs)s::bigint[], %(nodes)s::text[], %(leases)s::bigint[]) WITH ORDINALITY AS a (seq, node, lease, place)
-- LIMIT, so that it can't be planned as a scan of the table.
CROSS JOIN LATERAL (
  SELECT * FROM topics_job WHERE topic_id = %(topic_id)s::bigint AND seq = a.seq LIMIT 1
) AS j
WHERE j.state IN (1, 3) AND j.due > %(now)s::bigint AND j.node = a.node AND (a.lease = 0 OR a.lease = j.lease)
ORDER BY a.place
