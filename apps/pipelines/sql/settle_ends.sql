-- Say what executions that have ended mean to their trigger, whose lock the caller holds: how many have completed, which
-- have failed, and how many attempts it has not counted yet; from now on it has. Called by settling; index
-- pipelines_execution_pkey. Those that go on again are left for their next end.
WITH again AS MATERIALIZED (
  SELECT id, attempt - counted_attempts AS attempts
  FROM pipelines_execution
  WHERE id = ANY (%(ids)s::uuid[]) AND source_id = %(source_id)s AND status <> 'running' AND attempt > counted_attempts
  ORDER BY id
  FOR NO KEY UPDATE
), counted AS (
  UPDATE pipelines_execution e SET counted_attempts = e.attempt FROM again a WHERE e.id = a.id
)
SELECT count(*) FILTER (WHERE status = 'completed') AS succeeded,
       coalesce(array_agg(id) FILTER (WHERE status = 'failed'), '{}') AS failed,
       (SELECT coalesce(sum(attempts), 0) FROM again)::int AS retried
FROM pipelines_execution
WHERE id = ANY (%(ids)s::uuid[]) AND source_id = %(source_id)s
