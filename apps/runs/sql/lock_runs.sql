-- Lock runs for a batch of moves, in id order so that two batches can't deadlock.
-- Called by transitions.Batch.lock; primary key of runs_run.
-- NO KEY: timeline and log rows that reference the run may be inserted meanwhile.
SELECT id, state, progress, current_attempt, event_count, failures, losses, retry_policy, topic, attributes,
       output_specs, CASE WHEN output_specs <> '{}' THEN outputs END AS outputs, queued_at, scheduled_at,
       assigned_at, started_at, finished_at, worker_id, lease, gpu, handle, message_offset, exit_code, error_message,
       cancel_requested_at, cancel_reason, execution_id
FROM runs_run
WHERE id = ANY(%(ids)s::uuid[])
ORDER BY id
FOR NO KEY UPDATE
