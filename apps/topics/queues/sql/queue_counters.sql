-- Read the counters of queues as they are now, without a lock: what `return_jobs` would take off the stored ones first is
-- counted here. Called by queries.queue_counters; indexes topics_queue_pkey, job_by_due, topics_job_pkey.
SELECT q.topic_id, q.leased - o.leases AS in_flight, q.delayed - o.delays AS delayed, q.dead_lettered, q.is_paused
FROM topics_queue q
JOIN topics_topic t ON t.id = q.topic_id
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE over.state = 1) AS leases, count(*) FILTER (WHERE over.state = 2) AS delays
  FROM (
    SELECT j.seq, j.state FROM topics_job j
    WHERE j.topic_id = q.topic_id AND j.state <> 0 AND j.due > q.swept_due AND j.due <= %(now)s::bigint
  UNION
    SELECT j.seq, j.state FROM topics_job j
    WHERE j.topic_id = q.topic_id AND j.seq >= q.reaped AND j.seq < t.earliest
  ) AS over
) AS o
WHERE q.topic_id = ANY (%(topic_ids)s::bigint[])
