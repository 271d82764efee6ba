-- Write the stages of an execution that have changed, and the execution itself, in one statement. Called by
-- transitions.Moves.write, which holds the execution's lock; primary keys of both tables.
WITH given AS (
  SELECT * FROM json_to_recordset(%(stages)s::json) AS s (
    position int, status text, outputs jsonb, error text, attempts int, run_ids uuid[], items jsonb, note jsonb,
    wake_at timestamptz, started_at timestamptz, completed_at timestamptz, keeps_outputs boolean)
), stages AS (
  UPDATE pipelines_stage s
  SET status = g.status, error = g.error, attempts = g.attempts, run_ids = g.run_ids, items = g.items, note = g.note,
      wake_at = g.wake_at, started_at = g.started_at, completed_at = g.completed_at,
      outputs = CASE WHEN g.keeps_outputs THEN s.outputs ELSE g.outputs END
  FROM given g
  WHERE s.execution_id = %(execution_id)s::uuid AND s.position = g.position
)
UPDATE pipelines_execution e
SET status = %(status)s::text, is_queued = %(is_queued)s::boolean, is_settled = %(is_settled)s::boolean,
    outputs = coalesce(%(outputs)s::jsonb, e.outputs),
    error_info = %(error_info)s::jsonb, attempt = %(attempt)s::int, started_at = %(started_at)s::timestamptz,
    completed_at = %(completed_at)s::timestamptz, wake_at = %(wake_at)s::timestamptz,
    deadline_at = %(deadline_at)s::timestamptz, retry_at = %(retry_at)s::timestamptz,
    cancel_requested_at = %(cancel_requested_at)s::timestamptz,
    cancel_reason = %(cancel_reason)s::text
WHERE e.id = %(execution_id)s::uuid
