-- Delete the live records from `first` to `last` whose tag is `tag` or begins with `prefix`, in a transaction that holds
-- the topic's lock and then corrects its counters. Called by removal; index topics_event_pkey.
WITH gone AS (
  DELETE FROM topics_event e
  USING topics_topic t
  WHERE t.id = %(topic_id)s::bigint AND e.topic_id = t.id AND e.seq >= t.earliest
    AND e.seq >= %(first)s::bigint AND e.seq <= %(last)s::bigint
    AND (e.tag = %(tag)s::text OR starts_with(e.tag, %(prefix)s::text))
  RETURNING e.size
)
SELECT count(*) AS records, coalesce(sum(size), 0)::bigint AS bytes FROM gone
