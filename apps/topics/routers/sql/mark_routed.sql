-- Note on topics whether routers read them and feed them. Called by routers.topology, whose turn it is to change routers,
-- after the change; primary key of topics_topic, the routers' indexes by source and dest. Locks in name order.
WITH locked AS MATERIALIZED (
  SELECT id FROM topics_topic WHERE id = ANY (%(ids)s::bigint[]) ORDER BY name FOR NO KEY UPDATE
)
UPDATE topics_topic t
SET has_listeners = t.is_followed OR EXISTS (SELECT FROM topics_router r WHERE r.source_id = t.id),
    is_fed = EXISTS (SELECT FROM topics_router r WHERE r.dest_id = t.id)
FROM locked l
WHERE t.id = l.id
