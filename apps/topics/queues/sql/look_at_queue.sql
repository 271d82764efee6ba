-- Whether a queue has something to hand out: what `ready` would be after `return_jobs`, as far as it is more than zero.
-- Takes no lock; no row if there is no such topic. Called by rooms, for all /work streams of a process at once; indexes
-- topic_once_per_name, topics_queue_pkey, job_by_due, topics_job_pkey.
SELECT t.id AS topic_id, t.kind = 'queue' AS is_queue,
       NOT coalesce(q.is_paused, false) AND (
         t.count > coalesce(q.leased + q.delayed, 0)
         OR EXISTS (
           SELECT FROM topics_job j
           WHERE j.topic_id = t.id AND j.state <> 0 AND j.due > q.swept_due AND j.due <= %(now)s::bigint
         )
         OR EXISTS (
           SELECT FROM topics_job j
           WHERE j.topic_id = t.id AND j.seq >= q.reaped AND j.seq < t.earliest AND j.state IN (1, 2)
         )
         -- A claim has the routers drained that feed it (§16.4).
         OR (t.is_fed AND topics_is_owed(t.id))
       ) AS is_claimable
FROM topics_topic t
LEFT JOIN topics_queue q ON q.topic_id = t.id
WHERE t.name = %(name)s::text
