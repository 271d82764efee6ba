-- Which executions have something to do that nobody told them: a run of an active stage has ended, or has started and
-- the stage does not say so; or their time has come. Called by sweeps; indexes stage_active, execution_due, runs_run_pkey.
SELECT DISTINCT s.execution_id AS id
FROM pipelines_stage s
JOIN runs_run r ON r.id = ANY (s.run_ids)
WHERE s.status IN ('initiated', 'processing')
  AND (
    (s.status = 'initiated' AND r.started_at IS NOT NULL)
    -- All of its runs have ended, or there is room for the next item.
    OR (r.state IN ('COMPLETED', 'FAILED', 'CANCELLED') AND (
      s.items IS NOT NULL
      OR NOT EXISTS (SELECT FROM runs_run o WHERE o.id = ANY (s.run_ids) AND o.state IN ('PENDING', 'ASSIGNED', 'RUNNING')))))
UNION
SELECT e.id FROM pipelines_execution e WHERE e.wake_at <= %(now)s::timestamptz AND NOT e.is_queued
LIMIT %(limit)s::int
