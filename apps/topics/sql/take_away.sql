-- Take `records` live records of `bytes` bytes off a topic's counters; the oldest left is the first one from `first` on.
-- Called by removal in the transaction that holds the topic's lock; index topics_event_pkey.
WITH topic AS (
  SELECT head, greatest(earliest, %(first)s::bigint) AS first FROM topics_topic WHERE id = %(topic_id)s::bigint
), next AS (
  -- LATERAL with the id as a value: as a plain join all of the topic's records would be read and sorted.
  SELECT n.* FROM topic t CROSS JOIN LATERAL (
    SELECT e.seq, e.ts FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq >= t.first AND e.seq <= t.head
    ORDER BY e.seq
    LIMIT 1
  ) AS n
)
UPDATE topics_topic t
SET earliest = coalesce((SELECT seq FROM next), t.head + 1),
    earliest_ts = (SELECT ts FROM next),
    count = t.count - %(records)s::bigint,
    bytes = t.bytes - %(bytes)s::bigint
WHERE t.id = %(topic_id)s::bigint
RETURNING head, earliest, count, bytes
