-- Look a topic up by name. Called by queries; index topic_once_per_name.
SELECT id FROM topics_topic WHERE name = %(name)s::text
