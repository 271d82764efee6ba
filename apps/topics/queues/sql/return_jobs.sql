-- Give back the jobs of a locked queue whose lease or delay has ended, and let go of those whose record is no more;
-- return the topic's marks and how many jobs ceased to be leased and delayed. Called by passes, first of all; indexes
-- job_by_due, topics_job_pkey, topics_topic_pkey.
-- Both scans begin where the last one ended (swept_due, reaped), because below lie the dead entries of finished jobs.
-- A job whose record is gone keeps its lease until it ends (§18.8); one that is not leased has nothing to keep.
WITH topic AS MATERIALIZED (
  SELECT head, earliest, count FROM topics_topic WHERE id = %(topic_id)s::bigint
), touched AS (
  SELECT j.seq, j.state, j.due FROM topics_job j
  WHERE j.topic_id = %(topic_id)s::bigint AND j.state <> 0
    AND j.due > %(swept_due)s::bigint AND j.due <= %(now)s::bigint
UNION
  SELECT j.seq, j.state, j.due FROM topic t, topics_job j
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq >= %(reaped)s::bigint AND j.seq < t.earliest
), judged AS MATERIALIZED (
  SELECT o.seq, o.state, o.due <= %(now)s::bigint AS is_over, o.state = 3 OR o.seq < t.earliest AS is_gone
  FROM topic t, touched o
), removed AS (
  DELETE FROM topics_job j USING judged o
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = o.seq AND o.is_gone AND (o.is_over OR o.state IN (0, 2))
), lingering AS (
  UPDATE topics_job j SET state = 3
  FROM judged o
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = o.seq AND o.is_gone AND NOT o.is_over AND o.state = 1
), returned AS (
  UPDATE topics_job j SET state = 0, due = 0, lease = NULL, node = NULL, is_pushed = false
  FROM judged o
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = o.seq AND o.is_over AND NOT o.is_gone
)
SELECT t.head, t.earliest, t.count,
       (SELECT count(*) FROM judged o WHERE o.state = 1) AS leases_over,
       (SELECT count(*) FROM judged o WHERE o.state = 2) AS delays_over
FROM topic t
