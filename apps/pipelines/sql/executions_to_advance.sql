-- Let executions be advanced that have something to do which nobody told them: a run of an active stage has ended, or has
-- started and the stage does not say so. Called by sweeps; indexes stage_active, runs_run_pkey, pipelines_execution_pkey.
-- before: what is younger is being told. Those somebody else is at are passed over, to be found again if need be.
-- An array, since Postgres guesses how many stages there are from a moment when there were none, and would look through
-- all of them for each execution.
WITH due AS (
  SELECT e.id
  FROM pipelines_execution e
  WHERE e.status = 'running' AND (e.wake_at IS NULL OR e.wake_at > %(now)s::timestamptz) AND e.retry_at IS NULL
    AND e.id = ANY (ARRAY(
      SELECT s.execution_id
      FROM pipelines_stage s
      WHERE s.status IN ('initiated', 'processing') AND cardinality(s.run_ids) > 0
        AND (
          (s.status = 'initiated' AND EXISTS (
            SELECT FROM runs_run r WHERE r.id = ANY (s.run_ids) AND r.started_at < %(before)s::timestamptz))
          -- All of its runs have ended, or there is room for the next item.
          OR CASE WHEN s.items IS NULL OR jsonb_array_length(s.items) = cardinality(s.run_ids)
               THEN NOT EXISTS (
                 SELECT FROM runs_run r
                 WHERE r.id = ANY (s.run_ids)
                   AND (r.finished_at IS NULL OR r.finished_at >= %(before)s::timestamptz))
               ELSE EXISTS (
                 SELECT FROM runs_run r WHERE r.id = ANY (s.run_ids) AND r.finished_at < %(before)s::timestamptz)
             END)))
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE pipelines_execution e SET wake_at = %(now)s::timestamptz FROM due WHERE e.id = due.id
RETURNING e.id
