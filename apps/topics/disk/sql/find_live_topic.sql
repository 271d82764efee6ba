-- Find a topic that may have a live record in a segment; no row if all of it is dead. Called by disk.segments for
-- segments that nobody writes to any more; steps from topic to topic along the segment's key, and stops at the first.
WITH RECURSIVE topic AS (
  (SELECT topic_id FROM {segment} ORDER BY topic_id LIMIT 1)
UNION ALL
  SELECT (SELECT e.topic_id FROM {segment} e WHERE e.topic_id > t.topic_id ORDER BY e.topic_id LIMIT 1)
  FROM topic t
  WHERE t.topic_id IS NOT NULL
)
SELECT t.topic_id
FROM topic t
JOIN topics_topic owner ON owner.id = t.topic_id
WHERE owner.earliest <= (SELECT max(e.seq) FROM {segment} e WHERE e.topic_id = t.topic_id)
LIMIT 1
