-- Read a topic's marks and counters. Called by removal; index topic_once_per_name.
SELECT id AS topic_id, head, earliest, count, bytes FROM topics_topic WHERE name = %(name)s::text
