-- Read a router and how far its source goes. Called by routers.queries; index router_once_per_name.
SELECT r.id, r.name, s.name AS source, d.name AS dest, r.preserve_node, r.preserve_tag, r.filter_text, r.filter_is_prefix,
       r.allow_cycle, r.guarantee, r.position, r.forwarded_total, s.head
FROM topics_router r
JOIN topics_topic s ON s.id = r.source_id
JOIN topics_topic d ON d.id = r.dest_id
WHERE r.name = %(name)s::text
