-- Lock a topic until the transaction ends; nobody appends to it meanwhile. Called by settling; index
-- topic_once_per_name.
SELECT id, head, count FROM topics_topic WHERE name = %(name)s::text FOR NO KEY UPDATE
