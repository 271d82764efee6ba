-- Let executions be advanced that have something to do which nobody told them: a run of an active stage has ended, or has
-- started and the stage does not say so. Called by sweeps; indexes stage_active, runs_run_pkey.
UPDATE pipelines_execution e
SET wake_at = %(now)s::timestamptz
WHERE e.status = 'running' AND (e.wake_at IS NULL OR e.wake_at > %(now)s::timestamptz) AND e.retry_at IS NULL
  AND e.id IN (
    SELECT s.execution_id
    FROM pipelines_stage s
    WHERE s.status IN ('initiated', 'processing') AND cardinality(s.run_ids) > 0
      AND (
        (s.status = 'initiated' AND EXISTS (
          SELECT FROM runs_run r WHERE r.id = ANY (s.run_ids) AND r.started_at IS NOT NULL))
        -- All of its runs have ended, or there is room for the next item.
        OR CASE WHEN s.items IS NULL OR jsonb_array_length(s.items) = cardinality(s.run_ids)
             THEN NOT EXISTS (
               SELECT FROM runs_run r WHERE r.id = ANY (s.run_ids) AND r.state IN ('PENDING', 'ASSIGNED', 'RUNNING'))
             ELSE EXISTS (
               SELECT FROM runs_run r WHERE r.id = ANY (s.run_ids) AND r.state IN ('COMPLETED', 'FAILED', 'CANCELLED'))
           END))
RETURNING e.id
