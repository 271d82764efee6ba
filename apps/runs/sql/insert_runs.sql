-- Store new runs, PENDING, any number in one statement that is planned once: an INSERT that the ORM writes out costs twice
-- as much for one run and five times as much for a thousand. Called by creation.insert_runs.
-- What a new run has not done yet is written here, as the model's defaults have it.
INSERT INTO runs_run (
  id, state, priority, progress, current_attempt, executor, image, command, python, env, inputs, outputs, output_specs,
  op_definition, op_version, cpu, ram_mb, vram_mb, gpu_id, tags, retry_policy, failures, losses, topic, attributes,
  timeout_s, metadata, execution_id, step, stage, created_by, created_at, updated_at, queued_at, scheduled_at,
  message_offset, event_count, error_message, cancel_reason)
SELECT id, 'PENDING', priority, 0, 1, executor, image, command, python, env, inputs, '{}', output_specs,
       op_definition, op_version, cpu, ram_mb, vram_mb, gpu_id, tags, retry_policy, 0, 0, topic, attributes,
       timeout_s, metadata, execution_id, step, stage, created_by, created_at, updated_at, queued_at, scheduled_at, 0,
       0, '', ''
FROM json_to_recordset(%(runs)s::json) AS r (
  id uuid, priority int, executor text, image text, command text[], python text, env jsonb, inputs jsonb,
  output_specs jsonb, op_definition text, op_version text, cpu int, ram_mb int, vram_mb int, gpu_id int, tags text[],
  retry_policy jsonb, topic text, attributes jsonb, timeout_s float8, metadata jsonb, execution_id uuid, step text,
  stage text, created_by text, created_at timestamptz, updated_at timestamptz, queued_at timestamptz, scheduled_at timestamptz)
