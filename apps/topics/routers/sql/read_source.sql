-- Take the turn to forward a router's records, which is its row's lock, and read the next of them with the marks of the
-- source. One row, with what the filter lets pass as arrays, null if that is nothing; no row if the router is
-- gone or paused.
-- `read_to` is the last record looked at. Called by routers.forwarding; primary keys of topics_router and topics_topic, the
-- keys of the segments.
--
-- Reads the source without its lock: what a snapshot shows of it up to its head is committed and will not change. If the
-- turn had to be waited for, position may be beyond the head of the snapshot; the caller then asks again.
WITH router AS MATERIALIZED (
  SELECT id, name, source_id, dest_id, preserve_node, preserve_tag, filter_text, filter_is_prefix, guarantee, position,
         forwarded_total
  FROM topics_router
  WHERE id = %(router_id)s::bigint AND NOT is_paused
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
  SELECT g.*, greatest(g.source_floor, (g.gaps).floor) AS lost_floor, (g.gaps).ends AS gap_end,
         coalesce((g.gaps).ends, g.start) AS behind, coalesce((g.gaps).begins - 1, g.head) AS until
  FROM (
    -- OFFSET 0: else it is all evaluated again wherever it is named below.
    SELECT t.*, CASE WHEN t.has_gaps THEN topics_gaps_at(t.id, t.earliest, t.start) END AS gaps FROM topic t OFFSET 0
  ) AS g
)
SELECT t.router, t.guarantee, t.preserve_node, t.preserve_tag, t.position, t.forwarded_total,
       t.id AS source_id, t.source, t.source_epoch, t.head, t.earliest, t.cap_floor, t.ttl_floor,
       t.lost_floor AS source_floor, t.gap_end, t.until, t.is_stale,
       d.id AS dest_id, d.name AS dest, d.cap_records > 0 OR d.cap_bytes > 0 AS dest_has_cap,
       p.read_to, p.seqs, p.sizes, p.kinds, p.trails, p.tags, p.nodes, p.datas, p.metas
FROM span t
JOIN topics_topic d ON d.id = t.dest_id
CROSS JOIN LATERAL (
  SELECT max(w.seq) AS read_to,
         array_agg(w.seq ORDER BY w.seq) FILTER (WHERE w.passes) AS seqs,
         array_agg(w.size ORDER BY w.seq) FILTER (WHERE w.passes) AS sizes,
         array_agg(w.kind ORDER BY w.seq) FILTER (WHERE w.passes) AS kinds,
         array_agg(w.trail ORDER BY w.seq) FILTER (WHERE w.passes) AS trails,
         array_agg(w.tag ORDER BY w.seq) FILTER (WHERE w.passes) AS tags,
         array_agg(w.node ORDER BY w.seq) FILTER (WHERE w.passes) AS nodes,
         array_agg(w.data ORDER BY w.seq) FILTER (WHERE w.passes) AS datas,
         array_agg(w.meta ORDER BY w.seq) FILTER (WHERE w.passes) AS metas
  FROM (
    SELECT v.*, t.filter_text IS NULL
                OR CASE WHEN t.filter_is_prefix THEN starts_with(v.tag, t.filter_text) ELSE v.tag = t.filter_text END
                  AS passes,
           sum(v.size) OVER (ORDER BY v.seq ROWS UNBOUNDED PRECEDING) - v.size AS bytes_before
    FROM (
      SELECT seq, size, kind, trail, tag, node, data, meta FROM topics_event
      WHERE topic_id = t.id AND seq > t.behind AND seq <= t.until AND NOT t.is_stale
      ORDER BY seq
      LIMIT %(limit)s::int
    ) AS v
  ) AS w
  WHERE w.bytes_before < %(budget)s::bigint
) AS p
