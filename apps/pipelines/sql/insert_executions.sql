-- Store new executions with their stages, any number in one statement that is planned once: INSERTs that the ORM writes
-- out cost several times as much. Called by transitions.create.
WITH execution AS (
  INSERT INTO pipelines_execution (
    id, pipeline_id, pipeline_version, status, is_queued, tag, document, trigger, inputs, outputs, metadata,
    error_info, attempt, hops, parent_id, parent_stage, root_correlation_id, created_by, prefixes, created_at, started_at,
    completed_at, retry_at, cancel_requested_at, cancel_reason, wake_at, deadline_at, source_id, source_topic_id,
    source_seq, source_key, scheduled_at)
  SELECT id, pipeline_id, pipeline_version, status, is_queued, tag, document, trigger, inputs,
         coalesce(outputs, '{}'), metadata, error_info, attempt, hops, parent_id, parent_stage, root_correlation_id,
         created_by, prefixes, created_at, started_at, completed_at, retry_at, cancel_requested_at, cancel_reason, wake_at,
         deadline_at, source_id, source_topic_id, source_seq, source_key, scheduled_at
  FROM json_to_recordset(%(executions)s::json) AS g (
    id uuid, pipeline_id text, pipeline_version int, status text, is_queued boolean, tag text,
    document text, trigger text, inputs jsonb, outputs jsonb, metadata jsonb, error_info jsonb, attempt int, hops int,
    parent_id uuid, parent_stage text, root_correlation_id text, created_by text, prefixes text[],
    created_at timestamptz, started_at timestamptz, completed_at timestamptz, retry_at timestamptz,
    cancel_requested_at timestamptz, cancel_reason text, wake_at timestamptz, deadline_at timestamptz, source_id text,
    source_topic_id bigint, source_seq bigint, source_key text, scheduled_at timestamptz)
), ending AS (
  INSERT INTO pipelines_ending (pipeline_id, source_id, execution_ids, parent_ids)
  SELECT * FROM json_to_recordset(%(endings)s::json) AS n (
    pipeline_id text, source_id text, execution_ids uuid[], parent_ids uuid[])
)
INSERT INTO pipelines_stage (
  execution_id, position, name, status, outputs, error, attempts, run_ids, items, note, wake_at, started_at, completed_at)
SELECT * FROM json_to_recordset(%(stages)s::json) AS s (
  execution_id uuid, position int, name text, status text, outputs jsonb, error text, attempts int, run_ids uuid[],
  items jsonb, note jsonb, wake_at timestamptz, started_at timestamptz, completed_at timestamptz)
