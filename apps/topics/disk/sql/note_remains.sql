-- Note what nobody can read any more and is still on disk, and when it is to be deleted; what is noted already keeps its
-- time. Called by disk.remains; reads every topic.
INSERT INTO topics_remains (topic_id, first, below, due_at)
SELECT id, swept, earliest, %(due_at)s::timestamptz FROM topics_topic WHERE swept < earliest
UNION ALL
SELECT id, 1, head + 1, %(due_at)s::timestamptz FROM topics_deletedtopic
ON CONFLICT (topic_id) DO NOTHING
