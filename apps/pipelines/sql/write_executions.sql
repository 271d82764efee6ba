-- Write executions that have changed and those of their stages that have, in one statement. Called by
-- transitions, which holds the executions' locks; primary keys of both tables.
WITH stages AS (
  UPDATE pipelines_stage s
  SET status = g.status, error = g.error, attempts = g.attempts, run_ids = g.run_ids, items = g.items, note = g.note,
      wake_at = g.wake_at, started_at = g.started_at, completed_at = g.completed_at,
      outputs = CASE WHEN g.keeps_outputs THEN s.outputs ELSE g.outputs END
  FROM json_to_recordset(%(stages)s::json) AS g (
    execution_id uuid, position int, status text, outputs jsonb, error text, attempts int, run_ids uuid[], items jsonb,
    note jsonb, wake_at timestamptz, started_at timestamptz, completed_at timestamptz, keeps_outputs boolean)
  WHERE s.execution_id = g.execution_id AND s.position = g.position
), ending AS (
  INSERT INTO pipelines_ending (pipeline_id, source_id, execution_ids, parent_ids)
  SELECT * FROM json_to_recordset(%(endings)s::json) AS n (
    pipeline_id text, source_id text, execution_ids uuid[], parent_ids uuid[])
)
UPDATE pipelines_execution e
SET status = g.status, is_queued = g.is_queued, outputs = coalesce(g.outputs, e.outputs),
    error_info = g.error_info, attempt = g.attempt, started_at = g.started_at, completed_at = g.completed_at,
    wake_at = g.wake_at, deadline_at = g.deadline_at, retry_at = g.retry_at,
    cancel_requested_at = g.cancel_requested_at, cancel_reason = g.cancel_reason
FROM json_to_recordset(%(executions)s::json) AS g (
  id uuid, status text, is_queued boolean, outputs jsonb, error_info jsonb, attempt int,
  started_at timestamptz, completed_at timestamptz, wake_at timestamptz, deadline_at timestamptz, retry_at timestamptz,
  cancel_requested_at timestamptz, cancel_reason text)
WHERE e.id = g.id
