-- Write one batch of moves: the runs as they are now, the timeline entries that say so, and the attempts left
-- behind. Called by transitions.Batch.write, which holds the row locks. All parts see the rows as they were
-- before this statement, so `archived` copies the old attempt from the run itself.
WITH moved AS (
  SELECT * FROM json_to_recordset(%(runs)s::json) AS m (
    id uuid, state text, progress int, current_attempt int, event_count int, failures int, losses int,
    outputs jsonb, outputs_patch jsonb, queued_at timestamptz, scheduled_at timestamptz, assigned_at timestamptz,
    started_at timestamptz, finished_at timestamptz, worker_id text, lease text, gpu int, handle jsonb,
    message_offset bigint, exit_code int, error_message text, cancel_requested_at timestamptz, cancel_reason text)
), archived AS (
  INSERT INTO runs_attempt (run_id, number, state, progress, outputs, worker_name, gpu, exit_code, error_message,
                            queued_at, assigned_at, started_at, finished_at)
  SELECT r.id, r.current_attempt, a.state, a.progress, r.outputs || COALESCE(a.outputs_patch, '{}'), r.worker_name,
         r.gpu, a.exit_code, a.error_message, r.queued_at, r.assigned_at, a.started_at, a.finished_at
  FROM json_to_recordset(%(attempts)s::json) AS a (
    run_id uuid, state text, progress int, outputs_patch jsonb, exit_code int, error_message text,
    started_at timestamptz, finished_at timestamptz)
  JOIN (SELECT *, worker_id AS worker_name FROM runs_run) r ON r.id = a.run_id
), noted AS (
  INSERT INTO runs_runevent (run_id, attempt, number, at, type, msg, state, payload)
  SELECT run_id, attempt, number, at, type, msg, state, payload
  FROM json_to_recordset(%(events)s::json) AS e (
    run_id uuid, attempt int, number int, at timestamptz, type text, msg jsonb, state text, payload jsonb)
), logged AS (
  INSERT INTO runs_logchunk (run_id, attempt, start, content)
  SELECT * FROM unnest(%(log_runs)s::uuid[], %(log_attempts)s::int[], %(log_starts)s::bigint[], %(log_contents)s::bytea[])
  -- A report that is told again, because its first answer was lost, may have grown meanwhile.
  ON CONFLICT (run_id, attempt, start) DO UPDATE SET content = excluded.content
  WHERE length(excluded.content) > length(runs_logchunk.content)
)
UPDATE runs_run r
SET state = m.state, progress = m.progress, current_attempt = m.current_attempt, event_count = m.event_count,
    failures = m.failures, losses = m.losses,
    outputs = COALESCE(m.outputs, r.outputs) || COALESCE(m.outputs_patch, '{}'),
    queued_at = m.queued_at, scheduled_at = m.scheduled_at, assigned_at = m.assigned_at,
    started_at = m.started_at, finished_at = m.finished_at, worker_id = m.worker_id, lease = m.lease, gpu = m.gpu,
    handle = m.handle, message_offset = m.message_offset, exit_code = m.exit_code, error_message = m.error_message,
    cancel_requested_at = m.cancel_requested_at, cancel_reason = m.cancel_reason, updated_at = %(now)s::timestamptz
FROM moved m
WHERE r.id = m.id
