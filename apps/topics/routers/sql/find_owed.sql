-- Which routers owe a topic copies, and how far their source goes now. Called by routers.forwarding; index
-- topic_once_per_name, the routers' by dest.
SELECT b.router_id, s.head
FROM topics_topic d
JOIN topics_behind b ON b.dest_id = d.id
JOIN topics_topic s ON s.id = b.source_id
WHERE d.name = %(name)s::text
ORDER BY b.router_id
