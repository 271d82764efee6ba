-- Let go of the jobs whose record was just deleted, under the locks of the queue and its topic; a lease lingers until it
-- ends (§18.8). Looks at every job that was ever delivered and is not finished. Called by leftovers; indexes
-- topics_job_pkey, the keys of the segments.
WITH gone AS MATERIALIZED (
  SELECT j.seq, j.state FROM topics_job j
  WHERE j.topic_id = %(topic_id)s::bigint AND j.state <> 3
    AND NOT EXISTS (SELECT FROM topics_event e WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = j.seq)
), removed AS (
  DELETE FROM topics_job j USING gone g
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = g.seq AND g.state IN (0, 2)
), lingering AS (
  UPDATE topics_job j SET state = 3 FROM gone g
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = g.seq AND g.state = 1
)
UPDATE topics_queue
SET leased = leased - (SELECT count(*) FROM gone WHERE state = 1),
    delayed = delayed - (SELECT count(*) FROM gone WHERE state = 2)
WHERE topic_id = %(topic_id)s::bigint AND EXISTS (SELECT FROM gone)
