-- Create the topics that are missing, with default config, in name order: two callers that create the same names
-- wait for each other at the first. Called by services.ensure_topics; index topic_once_per_name.
INSERT INTO topics_topic (name)
SELECT n.name FROM unnest(%(names)s::text[]) AS n (name) ORDER BY n.name COLLATE "C"
ON CONFLICT (name) DO NOTHING
RETURNING name
