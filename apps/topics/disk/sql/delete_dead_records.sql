-- Delete the first `batch` records of a topic within what is noted as its remains; returns how far it got, null when
-- nothing was left. Takes no lock but those of dead records. Called by disk.remains; indexes: the keys of the segments.
WITH edge AS MATERIALIZED (
  SELECT max(seq) AS seq
  FROM (
    SELECT seq FROM topics_event
    WHERE topic_id = %(topic_id)s::bigint AND seq >= %(first)s::bigint AND seq < %(below)s::bigint
    ORDER BY seq
    LIMIT %(batch)s::int
  ) AS oldest
), gone AS (
  DELETE FROM topics_event
  WHERE topic_id = %(topic_id)s::bigint AND seq >= %(first)s::bigint AND seq <= (SELECT seq FROM edge)
)
SELECT seq FROM edge
