-- List routers by name with how far they are behind. Called by routers.queries; index router_once_per_name, per router the
-- newest keys of the segments. waiting_since: when the oldest record that is not dealt with was written. is_full: the
-- destination rejects more, so the router waits for room.
SELECT r.name, s.name AS source, d.name AS dest, r.guarantee, r.forwarded_total, r.is_paused, s.head - r.position AS lag,
       CASE WHEN s.head > r.position THEN
         (SELECT e.ts FROM topics_event e WHERE e.topic_id = s.id AND e.seq > r.position ORDER BY e.seq LIMIT 1)
       END AS waiting_since,
       s.head > r.position AND d.discard = 'reject'
         AND (d.cap_records > 0 AND d.count >= d.cap_records OR d.cap_bytes > 0 AND d.bytes >= d.cap_bytes) AS is_full
FROM topics_router r
JOIN topics_topic s ON s.id = r.source_id
JOIN topics_topic d ON d.id = r.dest_id
WHERE starts_with(r.name, %(prefix)s::text)
ORDER BY r.name
LIMIT %(limit)s::bigint
