-- Delete these records as far as they are live, in a transaction that holds the topic's lock and then corrects its
-- counters. Called by removal; index topics_event_pkey.
WITH gone AS (
  DELETE FROM topics_event e
  USING topics_topic t
  WHERE t.id = %(topic_id)s::bigint AND e.topic_id = t.id AND e.seq >= t.earliest
    AND e.seq = ANY (%(seqs)s::bigint[])
  RETURNING e.size
)
SELECT count(*) AS records, coalesce(sum(size), 0)::bigint AS bytes FROM gone
