-- Take the endings that name a trigger, whose lock the caller holds and tells it; return the executions. Called by settling;
-- index ending_by_source.
DELETE FROM pipelines_ending
WHERE id IN (
  SELECT id FROM pipelines_ending WHERE source_id = %(source_id)s ORDER BY id LIMIT %(most)s FOR UPDATE)
RETURNING execution_ids
