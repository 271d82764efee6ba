-- The topics that routers have records of to copy. The sweep: called by routers.forwarding; reads every router.
SELECT DISTINCT s.name
FROM topics_behind b
JOIN topics_topic s ON s.id = b.source_id
ORDER BY s.name
