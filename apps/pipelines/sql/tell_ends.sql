-- Take the endings that name a trigger, whose lock the caller holds, and say what they mean to it: how many executions have
-- completed, which have failed, and how many attempts it has not counted yet; from now on it has. Called by
-- settling.tell_trigger; indexes ending_by_source, pipelines_execution_pkey. Those that go on again are left for their next end.
WITH taken AS (
  DELETE FROM pipelines_ending
  WHERE id IN (
    SELECT id FROM pipelines_ending WHERE source_id = %(source_id)s ORDER BY id LIMIT %(most)s FOR UPDATE)
  RETURNING execution_ids
), ended AS MATERIALIZED (
  SELECT array_agg(one) AS ids FROM taken, unnest(execution_ids) AS one
), again AS MATERIALIZED (
  SELECT id, attempt - counted_attempts AS attempts
  FROM pipelines_execution
  WHERE id = ANY (ARRAY(SELECT unnest(ids) FROM ended)) AND source_id = %(source_id)s AND status <> 'running'
    AND attempt > counted_attempts
  ORDER BY id
  FOR NO KEY UPDATE
), counted AS (
  UPDATE pipelines_execution e SET counted_attempts = e.attempt FROM again a WHERE e.id = a.id
)
SELECT (SELECT count(*) FROM taken) AS endings,
       count(*) FILTER (WHERE status = 'completed') AS succeeded,
       coalesce(array_agg(id) FILTER (WHERE status = 'failed'), '{}') AS failed,
       (SELECT coalesce(sum(attempts), 0) FROM again)::int AS retried
FROM pipelines_execution
WHERE id = ANY (ARRAY(SELECT unnest(ids) FROM ended)) AND source_id = %(source_id)s
