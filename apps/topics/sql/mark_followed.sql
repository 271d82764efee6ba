-- Note on a topic, whose lock the caller holds, whether somebody outside of the log follows it. Called by
-- services.follow_topic; primary key of topics_topic, the routers' index by source.
UPDATE topics_topic t
SET is_followed = %(is_followed)s::boolean,
    has_listeners = %(is_followed)s::boolean OR EXISTS (SELECT FROM topics_router r WHERE r.source_id = t.id)
WHERE t.id = %(topic_id)s::bigint
