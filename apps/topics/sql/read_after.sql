-- Read the next records of a topic as rows, with the topic's marks, in one snapshot; an empty topic gives one row
-- without a record. Called by queries.read_after; indexes topic_once_per_name, the keys of the segments.
WITH topic AS (
  SELECT id, head, earliest, cap_floor, ttl_floor, source_floor, has_gaps,
         -- Nothing is read until retention, or what a crash of Postgres left, has been written down (B.4, B.12).
         (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
           AS is_stale,
         -- Read all the same: the second read takes what there is (§16.4).
         is_fed AND topics_is_owed(id) AS is_behind,
         CASE WHEN %(after)s::bigint > head THEN earliest - 1 ELSE greatest(%(after)s::bigint, earliest - 1) END AS start
  FROM topics_topic t
  WHERE name = %(name)s::text
), span AS (
  SELECT g.*, greatest(g.source_floor, (g.gaps).floor) AS lost_floor, (g.gaps).ends AS gap_end,
         coalesce((g.gaps).ends, g.start) AS behind, coalesce((g.gaps).begins - 1, g.head) AS until
  FROM (
    -- OFFSET 0: else it is all evaluated again wherever it is named below.
    SELECT t.*, CASE WHEN t.has_gaps THEN topics_gaps_at(t.id, t.earliest, t.start) END AS gaps FROM topic t OFFSET 0
  ) AS g
)
SELECT t.id, t.head, t.earliest, t.cap_floor, t.ttl_floor, t.lost_floor AS source_floor, t.gap_end, t.until,
       t.is_stale, t.is_stale OR t.is_behind AS unsettled,
       e.seq, e.ts, e.kind, e.tag, e.node, e.data, e.meta
FROM span t
LEFT JOIN LATERAL (
  SELECT seq, ts, kind, tag, node, data, meta FROM topics_event
  WHERE topic_id = t.id AND seq > t.behind AND seq <= t.until AND NOT t.is_stale
  ORDER BY seq
  LIMIT %(limit)s::int
) AS e ON true
ORDER BY e.seq
