-- Let go of the jobs whose record was just deleted, under the locks of the queue and its topic; a lease lingers until it
-- ends (§18.8). Looks at every job that was ever delivered and is not finished. Called by leftovers; indexes
-- topics_job_pkey, the keys of the segments.
WITH gone AS MATERIALIZED (
  SELECT j.seq, j.state
  FROM topics_job j
  -- LIMIT, so that it can't be planned as a scan of all records.
  LEFT JOIN LATERAL (
    SELECT true AS is_there FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = j.seq
    LIMIT 1
  ) AS record ON true
  WHERE j.topic_id = %(topic_id)s::bigint AND j.state <> 3 AND record.is_there IS NULL
), removed AS (
  DELETE FROM topics_job
  WHERE topic_id = %(topic_id)s::bigint AND seq = ANY (ARRAY (SELECT seq FROM gone WHERE state IN (0, 2)))
), lingering AS (
  UPDATE topics_job SET state = 3
  WHERE topic_id = %(topic_id)s::bigint AND seq = ANY (ARRAY (SELECT seq FROM gone WHERE state = 1))
)
UPDATE topics_queue
SET leased = leased - (SELECT count(*) FROM gone WHERE state = 1),
    delayed = delayed - (SELECT count(*) FROM gone WHERE state = 2)
WHERE topic_id = %(topic_id)s::bigint AND EXISTS (SELECT FROM gone)
