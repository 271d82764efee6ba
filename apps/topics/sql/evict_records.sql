-- One step of the retention pass of a topic (topics v0 §8.2): looks at its `chunk` oldest live records and takes away,
-- from the oldest, those that are expired or over a cap. `more` says that all of the chunk went, so the caller goes on.
-- Called by eviction; index: the keys of the segments.
-- ★17: only live records count against a cap, and a topic that rejects never loses one to it. The rows stay on disk,
-- below `earliest`, until the sweep.
--
-- locked: the caller holds the topic's lock. If not, the topic is locked by the update alone, after the records were
-- read, and nothing happens unless all that befell it meanwhile is appends; its newest record then stays, because
-- `next` must be known.
WITH topic AS (
  SELECT id, head, earliest, count, ttl_ms, cap_records, cap_bytes, discard,
         CASE WHEN ttl_ms > 0 THEN %(now)s::bigint - ttl_ms END AS oldest_ts,
         CASE WHEN discard = 'old' AND cap_records > 0 THEN count - cap_records END AS excess_records,
         CASE WHEN discard = 'old' AND cap_bytes > 0 THEN bytes - cap_bytes END AS excess_bytes
  FROM topics_topic
  WHERE id = %(topic_id)s::bigint
), oldest AS (
  -- LATERAL with the id as a value: as a plain join all of the topic's records would be read and sorted.
  SELECT o.* FROM topic t CROSS JOIN LATERAL (
    SELECT e.seq, e.ts, e.size FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq >= t.earliest AND e.seq <= t.head
      AND (%(locked)s OR e.seq < t.head)
    ORDER BY e.seq
    LIMIT %(chunk)s::int
  ) AS o
), judged AS (
  SELECT o.seq, o.size,
         coalesce(o.ts < t.oldest_ts, false) AS expired,
         coalesce(row_number() OVER w <= t.excess_records, false)
           -- The bytes before this record are not enough to take away.
           OR coalesce(sum(o.size) OVER w - o.size < t.excess_bytes, false) AS over_cap
  FROM topic t, oldest o
  WINDOW w AS (ORDER BY o.seq ROWS UNBOUNDED PRECEDING)
), gone AS (
  SELECT count(*) AS records, sum(size) AS size, max(seq) AS last_seq,
         max(seq) FILTER (WHERE expired) AS ttl_floor,
         max(seq) FILTER (WHERE NOT expired) AS cap_floor
  FROM judged
  WHERE expired OR over_cap
), next AS (
  SELECT n.* FROM topic t, gone g CROSS JOIN LATERAL (
    SELECT e.seq, e.ts FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq > g.last_seq AND e.seq <= t.head
    ORDER BY e.seq
    LIMIT 1
  ) AS n
)
UPDATE topics_topic t
SET ttl_floor = greatest(t.ttl_floor, g.ttl_floor),
    cap_floor = greatest(t.cap_floor, g.cap_floor),
    earliest = coalesce(n.seq, t.head + 1),
    earliest_ts = n.ts,
    count = t.count - g.records,
    bytes = t.bytes - g.size
FROM topic k CROSS JOIN gone g LEFT JOIN next n ON true
WHERE t.id = %(topic_id)s::bigint AND g.records > 0 AND (%(locked)s OR n.seq IS NOT NULL)
  -- Looked at again once the row is locked.
  AND t.earliest = k.earliest AND t.head - t.count = k.head - k.count
  AND (t.ttl_ms, t.cap_records, t.cap_bytes, t.discard) = (k.ttl_ms, k.cap_records, k.cap_bytes, k.discard)
RETURNING g.records AS evicted, g.records = %(chunk)s::int AS more
