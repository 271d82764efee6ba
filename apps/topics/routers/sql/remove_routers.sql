-- Remove the routers from and to a topic. Waits for passes that are under way. Called by routers.topology; index
-- topic_once_per_name, the routers' by source and dest.
DELETE FROM topics_router r
USING topics_topic t
WHERE t.name = %(name)s::text AND (r.source_id = t.id OR r.dest_id = t.id)
RETURNING r.name, r.source_id, r.dest_id
