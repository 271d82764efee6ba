-- Count the unexpired leases on live jobs over all queues (topics v0 §20). Called by queries.count_leases; indexes
-- job_by_due, topics_job_pkey; reads the row of every queue.
SELECT coalesce(sum(q.leased - o.leases), 0)::bigint AS leases
FROM topics_queue q
JOIN topics_topic t ON t.id = q.topic_id
CROSS JOIN LATERAL (
  SELECT count(*) AS leases
  FROM (
    SELECT j.seq FROM topics_job j
    WHERE j.topic_id = q.topic_id AND j.state = 1 AND j.due > q.swept_due AND j.due <= %(now)s::bigint
  UNION
    SELECT j.seq FROM topics_job j
    WHERE j.topic_id = q.topic_id AND j.state = 1 AND j.seq >= q.reaped AND j.seq < t.earliest
  ) AS over
) AS o
WHERE q.leased > 0
