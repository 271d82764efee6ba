-- After a crash of Postgres: move every head past the seqs that may have been acknowledged without being flushed, so
-- that none is handed out twice (Appendix B.12). Called by settling. Does nothing while the mark is
-- there. Locks in name order, like every append.
WITH behind AS MATERIALIZED (
  SELECT id FROM topics_topic
  WHERE reserved > head AND NOT EXISTS (SELECT FROM topics_intact)
  ORDER BY name
  FOR NO KEY UPDATE
), skipped AS (
  UPDATE topics_topic t
  SET head = t.reserved, earliest = CASE WHEN t.count = 0 THEN t.reserved + 1 ELSE t.earliest END
  FROM behind b
  WHERE t.id = b.id AND t.reserved > t.head
  RETURNING t.name
), marked AS (
  INSERT INTO topics_intact DEFAULT VALUES ON CONFLICT DO NOTHING
)
SELECT name FROM skipped
