-- Read the stages of executions with what their next steps need: the runs of active stages, and the outputs of ended ones
-- that a pending step reads. Called by livestages.stages_of under the executions' locks; primary keys of pipelines_stage
-- and runs_run, index stage_once_per_name.
--
-- executions, plans: which plan each of the executions follows; reading_plans, readers, reads: in this plan, the first step
-- reads the outputs of the second. Joined rather than looked up stage by stage: the work grows with the number of stages.
WITH execution AS (
  SELECT * FROM unnest(%(executions)s::uuid[], %(plans)s::int[]) AS e (id, plan)
), stage AS MATERIALIZED (
  SELECT s.*, e.plan FROM execution e JOIN pipelines_stage s ON s.execution_id = e.id
), needed AS MATERIALIZED (
  SELECT DISTINCT s.execution_id, r.read
  FROM unnest(%(reading_plans)s::int[], %(readers)s::text[], %(reads)s::text[]) AS r (plan, reader, read)
  JOIN stage s ON s.plan = r.plan AND s.name = r.reader
  WHERE s.status IN ('pending', 'initiated', 'processing')
)
SELECT s.execution_id, s.position, s.name, s.status, s.error, s.attempts, s.run_ids, s.items, s.note, s.wake_at,
       s.started_at, s.completed_at, CASE WHEN n.read IS NOT NULL THEN s.outputs END AS outputs, r.runs
FROM stage s
LEFT JOIN needed n ON n.execution_id = s.execution_id AND n.read = s.name
LEFT JOIN LATERAL (
  SELECT json_agg(json_build_object(
           'id', r.id, 'state', r.state, 'attempt', r.current_attempt, 'error', r.error_message,
           'started', r.started_at IS NOT NULL,
           'outputs', CASE WHEN r.state = 'COMPLETED' THEN r.outputs END)) AS runs
  FROM runs_run r
  WHERE s.status IN ('initiated', 'processing') AND r.id = ANY (s.run_ids)
) AS r ON true
ORDER BY s.execution_id, s.position
