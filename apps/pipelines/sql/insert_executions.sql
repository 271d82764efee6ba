-- Store new executions, running, with all their stages pending, any number in one statement that is planned once: INSERTs
-- that the ORM writes out cost several times as much. Called by transitions.create.
-- What a new execution has not done yet is written here, as the models' defaults have it.
WITH given AS (
  SELECT * FROM json_to_recordset(%(executions)s::json) AS g (
    id uuid, pipeline_id text, pipeline_version int, is_queued boolean, tag text, document text, trigger text, inputs jsonb,
    metadata jsonb, hops int, parent_id uuid, parent_stage text, root_correlation_id text, created_by text,
    prefixes text[], created_at timestamptz, started_at timestamptz, wake_at timestamptz, deadline_at timestamptz,
    source_id text, source_topic_id bigint, source_seq bigint, source_key text, scheduled_at timestamptz, steps text[])
), execution AS (
  INSERT INTO pipelines_execution (
    id, pipeline_id, pipeline_version, status, is_queued, is_settled, tag, document, trigger, inputs, outputs, metadata,
    attempt, hops, parent_id, parent_stage, root_correlation_id, created_by, prefixes, created_at, started_at,
    cancel_reason, wake_at, deadline_at, source_id, source_topic_id, source_seq, source_key, scheduled_at)
  SELECT id, pipeline_id, pipeline_version, 'running', is_queued, true, tag, document, trigger, inputs, '{}', metadata,
         1, hops, parent_id, parent_stage, root_correlation_id, created_by, prefixes, created_at, started_at,
         '', wake_at, deadline_at, source_id, source_topic_id, source_seq, source_key, scheduled_at
  FROM given
)
INSERT INTO pipelines_stage (execution_id, position, name, status, error, attempts, run_ids)
SELECT g.id, s.number - 1, s.name, 'pending', '', 0, '{}'
FROM given g, unnest(g.steps) WITH ORDINALITY AS s (name, number)
