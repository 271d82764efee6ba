-- Which routers have records of this topic to copy, and how far it goes now. Called by routers.forwarding; index
-- topic_once_per_name, the routers' by source.
SELECT b.router_id, s.head
FROM topics_topic s
JOIN topics_behind b ON b.source_id = s.id
WHERE s.name = %(name)s::text
ORDER BY b.router_id
