-- Read the next records of a topic as the JSON text of /v0, with the topic's marks, in one snapshot. Called by
-- queries.read_records; indexes topic_once_per_name, the keys of the segments. A page is joined here and not in Python,
-- because that takes Postgres a microsecond per record and Python three.
--
-- careful: a page that may outgrow its budget, or that hides records by node or tag, is measured record by record, which
-- takes twice as long. Shown are tags that equal `tag` or begin with `tag_prefix` (one of the two is null), or all. `window` counts what may be looked at, so that a filter which hides everything can't scan a
-- whole topic (⚑24).
WITH topic AS (
  SELECT id, head, earliest, cap_floor, ttl_floor, source_floor, has_gaps,
         -- Nothing is read until retention, or what a crash of Postgres left, has been written down (B.4, B.12).
         (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
           AS is_stale,
         -- Read all the same: the second read takes what there is (§16.4).
         is_fed AND topics_is_owed(id) AS is_behind,
         CASE WHEN %(after)s::bigint > head THEN earliest - 1 ELSE greatest(%(after)s::bigint, earliest - 1) END AS start,
         dedupe_node AND %(nodes)s::text[] IS NOT NULL AS hides_nodes,
         %(tag)s::text IS NOT NULL OR %(tag_prefix)s::text IS NOT NULL AS hides_tags,
         (dedupe_node AND %(nodes)s::text[] IS NOT NULL) OR %(tag)s::text IS NOT NULL OR %(tag_prefix)s::text IS NOT NULL
           OR largest::bigint * %(limit)s::int > %(budget)s::bigint AS careful
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
       convert_to(r.body, 'UTF8') AS body, r.records, r.scanned, r.last_seq, r.scanned_to, r.overflow_seq
FROM span t
LEFT JOIN LATERAL (
  SELECT string_agg(
           '{"$seq":' || e.seq || ',"$ts":' || e.ts
           || coalesce(',"$node":"' || e.node || '"', '')
           || CASE WHEN %(with_tags)s THEN coalesce(',"$tag":"' || e.tag || '"', '') ELSE '' END
           || CASE WHEN %(with_data)s THEN ',"data":' || e.data ELSE '' END
           || CASE WHEN %(with_meta)s THEN coalesce(',"meta":' || e.meta, '') ELSE '' END
           || '}', ',') AS body,
         count(*) AS records, count(*) AS scanned, max(e.seq) AS last_seq, NULL::bigint AS scanned_to,
         NULL::bigint AS overflow_seq
  FROM (
    SELECT seq, ts, node, tag, data, meta FROM topics_event
    WHERE topic_id = t.id AND seq > t.behind AND seq <= t.until
    ORDER BY seq
    LIMIT %(limit)s::int
  ) AS e
  WHERE NOT t.careful AND NOT t.is_stale
  HAVING NOT t.careful AND NOT t.is_stale
UNION ALL
  SELECT string_agg(
           '{"$seq":' || e.seq || ',"$ts":' || e.ts
           || coalesce(',"$node":"' || e.node || '"', '')
           || CASE WHEN %(with_tags)s THEN coalesce(',"$tag":"' || e.tag || '"', '') ELSE '' END
           || CASE WHEN %(with_data)s THEN ',"data":' || e.data ELSE '' END
           || CASE WHEN %(with_meta)s THEN coalesce(',"meta":' || e.meta, '') ELSE '' END
           || '}', ',') FILTER (WHERE e.fits),
         count(*) FILTER (WHERE e.fits), count(*), max(e.seq) FILTER (WHERE e.fits), max(e.seq),
         min(e.seq) FILTER (WHERE NOT e.hidden AND NOT e.fits AND e.shown <= %(limit)s::int)
  FROM (
    SELECT m.*, NOT m.hidden AND m.shown <= %(limit)s::int AND (m.total <= %(budget)s::bigint OR m.shown = 1) AS fits
    FROM (
      SELECT v.*, count(*) FILTER (WHERE NOT v.hidden) OVER w AS shown,
             sum(v.size) FILTER (WHERE NOT v.hidden) OVER w AS total
      FROM (
        SELECT seq, ts, node, tag, data, meta, size,
               (t.hides_nodes AND coalesce(node = ANY (%(nodes)s::text[]), false))
                 OR (t.hides_tags AND NOT coalesce(tag = %(tag)s::text OR starts_with(tag, %(tag_prefix)s::text), false))
                 AS hidden
        FROM topics_event
        WHERE topic_id = t.id AND seq > t.behind AND seq <= t.until
        ORDER BY seq
        LIMIT CASE WHEN t.hides_nodes OR t.hides_tags THEN %(window)s::int ELSE %(limit)s::int END
      ) AS v
      WINDOW w AS (ORDER BY v.seq ROWS UNBOUNDED PRECEDING)
    ) AS m
  ) AS e
  WHERE t.careful AND NOT t.is_stale
  HAVING t.careful AND NOT t.is_stale
) AS r ON true
