-- Take away all that is expired or over a cap from a topic whose lock the caller holds (topics v0 §8.2), however much, by
-- looking at some dozens of records: without gaps seqs count records, `ts` never falls, and `total` adds up bytes, so the
-- newest that goes is found by bisection. No row if the topic has gaps, or nothing goes; `evict_records` then does it.
-- Called by eviction; index: the keys of the segments.
WITH RECURSIVE topic AS MATERIALIZED (
  SELECT t.id, t.head, t.earliest, first.total - first.size AS bytes_before,
         CASE WHEN t.ttl_ms > 0 THEN %(now)s::bigint - t.ttl_ms END AS oldest_ts,
         CASE WHEN t.discard = 'old' AND t.cap_records > 0 THEN t.count - t.cap_records END AS excess_records,
         CASE WHEN t.discard = 'old' AND t.cap_bytes > 0 THEN t.bytes - t.cap_bytes END AS excess_bytes
  FROM topics_topic t
  CROSS JOIN LATERAL (
    SELECT total, size FROM topics_event WHERE topic_id = %(topic_id)s::bigint AND seq = t.earliest
  ) AS first
  WHERE t.id = %(topic_id)s::bigint AND t.count = t.head - t.earliest + 1
), by_age (gone, kept) AS (
  -- Up to `gone` all goes, from `kept` on all stays.
  SELECT earliest - 1, head + 1 FROM topic WHERE oldest_ts IS NOT NULL
UNION ALL
  SELECT CASE WHEN goes THEN middle ELSE gone END, CASE WHEN goes THEN kept ELSE middle END
  FROM (
    SELECT b.gone, b.kept, b.middle, (
             SELECT e.ts < t.oldest_ts FROM topics_event e
             WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = b.middle
           ) AS goes
    FROM (SELECT gone, kept, (gone + kept) / 2 AS middle FROM by_age WHERE kept - gone > 1) AS b, topic t
  ) AS probed
), by_bytes (gone, kept) AS (
  SELECT earliest - 1, head + 1 FROM topic WHERE excess_bytes > 0
UNION ALL
  SELECT CASE WHEN goes THEN middle ELSE gone END, CASE WHEN goes THEN kept ELSE middle END
  FROM (
    SELECT b.gone, b.kept, b.middle, (
             -- It goes if those before it are not enough.
             SELECT e.total - e.size - t.bytes_before < t.excess_bytes FROM topics_event e
             WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = b.middle
           ) AS goes
    FROM (SELECT gone, kept, (gone + kept) / 2 AS middle FROM by_bytes WHERE kept - gone > 1) AS b, topic t
  ) AS probed
), floors AS (
  SELECT t.earliest, t.head, t.bytes_before,
         coalesce((SELECT max(gone) FROM by_age), 0) AS ttl_floor,
         greatest(coalesce((SELECT max(gone) FROM by_bytes), 0),
                  CASE WHEN t.excess_records > 0 THEN t.earliest - 1 + t.excess_records::bigint ELSE 0 END) AS cap_floor
  FROM topic t
), gone AS (
  SELECT f.*, greatest(f.ttl_floor, f.cap_floor) AS last_seq, last.total - f.bytes_before AS size, next.ts AS next_ts
  FROM floors f
  CROSS JOIN LATERAL (
    SELECT e.total FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = greatest(f.ttl_floor, f.cap_floor)
  ) AS last
  LEFT JOIN LATERAL (
    SELECT e.ts FROM topics_event e
    WHERE e.topic_id = %(topic_id)s::bigint AND e.seq = greatest(f.ttl_floor, f.cap_floor) + 1
  ) AS next ON true
  WHERE greatest(f.ttl_floor, f.cap_floor) >= f.earliest
)
UPDATE topics_topic t
SET ttl_floor = CASE WHEN g.ttl_floor >= g.earliest THEN g.ttl_floor ELSE t.ttl_floor END,
    cap_floor = CASE WHEN g.cap_floor > g.ttl_floor THEN g.cap_floor ELSE t.cap_floor END,
    earliest = g.last_seq + 1,
    earliest_ts = g.next_ts,
    count = t.count - (g.last_seq - g.earliest + 1),
    bytes = t.bytes - g.size
FROM gone g
WHERE t.id = %(topic_id)s::bigint
RETURNING g.last_seq - g.earliest + 1 AS evicted
