-- Store when topics were last read. Called by touches.write_down; primary key of topics_topic. Locks in name order,
-- like every append, and passes over topics that somebody is writing to: the next read brings them again.
WITH noted AS (
  SELECT * FROM unnest(%(ids)s::bigint[], %(reads)s::bigint[], %(consumptions)s::bigint[]) AS n (id, read, consumed)
), locked AS MATERIALIZED (
  SELECT t.id FROM topics_topic t WHERE t.id = ANY (%(ids)s::bigint[]) ORDER BY t.name FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE topics_topic t
SET last_read_ts = CASE WHEN n.read > 0 THEN greatest(t.last_read_ts, n.read) ELSE t.last_read_ts END,
    last_consumed_ts = greatest(t.last_consumed_ts, n.consumed)
FROM noted n, locked l
WHERE t.id = n.id AND t.id = l.id
