-- Read an execution's stages with what its next steps need: the runs of active stages, and the outputs of ended ones
-- that a pending step reads. Called by queries.stages_of under the execution's lock; primary keys of pipelines_stage
-- and runs_run.
--
-- readers, reads: pairs of step names, the first reads the outputs of the second.
WITH stage AS (
  SELECT * FROM pipelines_stage WHERE execution_id = %(execution_id)s::uuid
)
SELECT s.position, s.name, s.status, s.error, s.attempts, s.run_ids, s.items, s.note, s.wake_at, s.started_at,
       s.completed_at,
       CASE WHEN EXISTS (
         SELECT FROM unnest(%(readers)s::text[], %(reads)s::text[]) AS r (reader, read)
         JOIN stage p ON p.name = r.reader AND p.status IN ('pending', 'initiated', 'processing')
         WHERE r.read = s.name
       ) THEN s.outputs END AS outputs,
       r.runs
FROM stage s
LEFT JOIN LATERAL (
  SELECT json_agg(json_build_object(
           'id', r.id, 'state', r.state, 'attempt', r.current_attempt, 'error', r.error_message,
           'started', r.started_at IS NOT NULL,
           'outputs', CASE WHEN r.state = 'COMPLETED' THEN r.outputs END)) AS runs
  FROM runs_run r
  WHERE s.status IN ('initiated', 'processing') AND r.id = ANY (s.run_ids)
) AS r ON true
ORDER BY s.position
