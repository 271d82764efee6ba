-- Lock topics with a gap that no live record is left below, until the transaction ends, and return their ids. In name
-- order, like every append; passes over topics that somebody is writing to. Called by routers.gaps; reads every gap.
SELECT t.id FROM topics_topic t
WHERE t.id IN (
  SELECT g.topic_id FROM topics_gap g JOIN topics_topic s ON s.id = g.topic_id WHERE g.last_seq < s.earliest
)
ORDER BY t.name
FOR NO KEY UPDATE SKIP LOCKED
