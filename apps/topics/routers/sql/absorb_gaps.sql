-- Make gaps part of the floor where no live record is left below them; readers take them for it already. Called by
-- routers.gaps, which holds the topics' locks since an earlier statement: this one sees every gap there is. Primary keys
-- of topics_gap and topics_topic.
WITH absorbed AS (
  DELETE FROM topics_gap g
  USING topics_topic t
  WHERE t.id = ANY (%(ids)s::bigint[]) AND g.topic_id = t.id AND g.last_seq < t.earliest
  RETURNING g.topic_id, g.last_seq
)
UPDATE topics_topic t
SET source_floor = greatest(t.source_floor, (SELECT max(a.last_seq) FROM absorbed a WHERE a.topic_id = t.id)),
    has_gaps = EXISTS (SELECT FROM topics_gap g WHERE g.topic_id = t.id AND g.last_seq >= t.earliest)
WHERE t.id = ANY (%(ids)s::bigint[])
