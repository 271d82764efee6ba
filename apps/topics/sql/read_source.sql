-- Take the turn to forward a router's records, which is its row's lock, and read the next of them with the marks of the
-- source. One row per record, in order; one without a record if there is none; no row if the router is gone. Records
-- that the filter leaves out come without their contents. Called by routers.forwarding; indexes topics_router_pkey,
-- topics_topic_pkey, topics_event_pkey.
--
-- Reads the source without its lock: what a snapshot shows of it up to its head is committed and will not change. If the
-- turn had to be waited for, position may be beyond the head of the snapshot; the caller then asks again.
WITH router AS MATERIALIZED (
  SELECT id, name, source_id, dest_id, preserve_node, preserve_tag, filter_text, filter_is_prefix, guarantee, position,
         forwarded_total
  FROM topics_router
  WHERE id = %(router_id)s::bigint
  FOR NO KEY UPDATE
), topic AS (
  SELECT r.name AS router, r.dest_id, r.preserve_node, r.preserve_tag, r.filter_text, r.filter_is_prefix, r.guarantee,
         r.position, r.forwarded_total,
         t.id, t.name AS source, t.head, t.earliest, t.cap_floor, t.ttl_floor, t.source_floor, t.has_gaps,
         (extract(epoch FROM t.created_at) * 1000)::bigint AS source_epoch,
         (t.ttl_ms > 0 AND coalesce(t.earliest_ts < %(now)s::bigint - t.ttl_ms, false))
           OR NOT EXISTS (SELECT FROM topics_intact) AS is_stale,
         greatest(r.position, t.earliest - 1) AS start
  FROM router r
  JOIN topics_topic t ON t.id = r.source_id
), span AS (
  SELECT t.*, greatest(t.source_floor, g.floor) AS lost_floor, g.ends AS gap_end,
         coalesce(g.ends, t.start) AS behind, coalesce(g.begins - 1, t.head) AS until
  FROM topic t
  LEFT JOIN LATERAL (SELECT * FROM topics_gaps_at(t.id, t.earliest, t.start) WHERE t.has_gaps) AS g ON true
)
SELECT t.router, t.guarantee, t.preserve_node, t.preserve_tag, t.position, t.forwarded_total,
       t.id AS source_id, t.source, t.source_epoch, t.head, t.earliest, t.cap_floor, t.ttl_floor,
       t.lost_floor AS source_floor, t.gap_end, t.until, t.is_stale,
       d.id AS dest_id, d.name AS dest, d.cap_records > 0 OR d.cap_bytes > 0 AS dest_has_cap,
       e.seq, e.matches, e.size, e.kind, e.trail, e.tag, e.node,
       CASE WHEN e.matches THEN e.data END AS data, CASE WHEN e.matches THEN e.meta END AS meta
FROM span t
JOIN topics_topic d ON d.id = t.dest_id
LEFT JOIN LATERAL (
  SELECT w.*, coalesce(t.filter_text IS NULL
                OR CASE WHEN t.filter_is_prefix THEN starts_with(w.tag, t.filter_text) ELSE w.tag = t.filter_text END,
                false) AS matches
  FROM (
    SELECT v.*, sum(v.size) OVER (ORDER BY v.seq ROWS UNBOUNDED PRECEDING) - v.size AS bytes_before
    FROM (
      SELECT seq, size, kind, trail, tag, node, data, meta FROM topics_event
      WHERE topic_id = t.id AND seq > t.behind AND seq <= t.until AND NOT t.is_stale
      ORDER BY seq
      LIMIT %(limit)s::int
    ) AS v
  ) AS w
  WHERE w.bytes_before < %(budget)s::bigint
) AS e ON true
ORDER BY e.seq
