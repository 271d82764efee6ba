-- Make sure that a queue has the row which is its lock, and tell what kind of topic it is; no row if there is no topic.
-- Called by passes when lock_queue finds nothing; index topic_once_per_name. Beside the row stands the mark that no lease
-- number was lost (lock_queue).
WITH topic AS (
  SELECT id, kind FROM topics_topic WHERE name = %(name)s::text
), opened AS (
  INSERT INTO topics_queue (topic_id) SELECT id FROM topic WHERE kind = 'queue'
  ON CONFLICT (topic_id) DO NOTHING
  RETURNING topic_id
), marked AS (
  INSERT INTO topics_queue_intact (topic_id) SELECT topic_id FROM opened
  ON CONFLICT (topic_id) DO NOTHING
)
SELECT kind FROM topic
