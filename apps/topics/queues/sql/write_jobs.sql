-- Forget the jobs that are finished, and give others a new state and due time; what is no longer held loses its lease.
-- Called by passes and services under the queue's lock; index topics_job_pkey.
WITH forgotten AS (
  DELETE FROM topics_job WHERE topic_id = %(topic_id)s::bigint AND seq = ANY (%(forgotten)s::bigint[])
)
UPDATE topics_job j
SET state = c.state, due = c.due,
    lease = CASE WHEN c.state IN (1, 3) THEN j.lease END,
    node = CASE WHEN c.state IN (1, 3) THEN j.node END,
    is_pushed = j.is_pushed AND c.state IN (1, 3)
FROM unnest(%(seqs)s::bigint[], %(states)s::smallint[], %(dues)s::bigint[]) AS c (seq, state, due)
-- By the array, so that it can't be planned as a scan of the table.
WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = ANY (%(seqs)s::bigint[]) AND j.seq = c.seq
