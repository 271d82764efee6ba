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
), fate AS MATERIALIZED (
  -- As arrays: a join could be planned as a scan of the table.
  SELECT array_agg(seq) FILTER (WHERE is_gone AND (is_over OR state IN (0, 2))) AS removed,
         array_agg(seq) FILTER (WHERE is_gone AND NOT is_over AND state = 1) AS lingering,
         array_agg(seq) FILTER (WHERE is_over AND NOT is_gone) AS returned,
         count(*) FILTER (WHERE state = 1) AS leases_over, count(*) FILTER (WHERE state = 2) AS delays_over
  FROM judged
), removed AS (
  DELETE FROM topics_job
  WHERE topic_id = %(topic_id)s::bigint AND seq = ANY ((SELECT removed FROM fate)::bigint[])
), lingering AS (
  UPDATE topics_job SET state = 3
  WHERE topic_id = %(topic_id)s::bigint AND seq = ANY ((SELECT lingering FROM fate)::bigint[])
), returned AS (
  UPDATE topics_job SET state = 0, due = 0, lease = NULL, node = NULL, is_pushed = false
  WHERE topic_id = %(topic_id)s::bigint AND seq = ANY ((SELECT returned FROM fate)::bigint[])
)
SELECT t.head, t.earliest, t.count, f.leases_over, f.delays_over
FROM topic t, fate f
