-- Use up seqs of a topic for records that its router's source had lost: head rises, count does not (topics v0 §16.6). With
-- nothing live below them they are part of the floor S; else they are a gap, so that no older record is hidden (★28).
-- Called by routers.forwarding; primary keys of topics_topic and topics_gap.
WITH topic AS MATERIALIZED (
  SELECT id, head, count FROM topics_topic WHERE id = %(topic_id)s::bigint FOR NO KEY UPDATE
), moved AS (
  UPDATE topics_topic t
  SET head = t.head + %(seqs)s::bigint,
      earliest = CASE WHEN t.count = 0 THEN t.head + %(seqs)s::bigint + 1 ELSE t.earliest END,
      source_floor = CASE WHEN t.count = 0 THEN t.head + %(seqs)s::bigint ELSE t.source_floor END,
      has_gaps = t.has_gaps OR t.count > 0
  FROM topic b
  WHERE t.id = b.id
  RETURNING t.id, t.head, t.count, t.has_listeners
), joined AS (
  -- Directly behind the gap before, it is the same gap.
  DELETE FROM topics_gap g
  USING moved m
  WHERE m.count > 0 AND g.topic_id = m.id AND g.last_seq = m.head - %(seqs)s::bigint
  RETURNING g.first_seq
), told AS (
  INSERT INTO topics_gap (topic_id, first_seq, last_seq)
  SELECT m.id, coalesce((SELECT first_seq FROM joined), m.head - %(seqs)s::bigint + 1), m.head
  FROM moved m
  WHERE m.count > 0
)
SELECT head, has_listeners FROM moved
