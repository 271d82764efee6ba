-- Give back all jobs of a locked queue that are leased, or those of one node, at once and ahead of fresh ones; returns
-- how many. Called by services.release_leases; index job_by_due.
WITH released AS (
  UPDATE topics_job
  SET state = 0, due = 0, lease = NULL, node = NULL, is_pushed = false
  WHERE topic_id = %(topic_id)s::bigint AND state = 1 AND (node = %(node)s::text OR %(node)s::text IS NULL)
  RETURNING seq
)
UPDATE topics_queue q
SET leased = q.leased - (SELECT count(*) FROM released)
WHERE q.topic_id = %(topic_id)s::bigint
RETURNING (SELECT count(*) FROM released) AS released
