-- Return how many topics there are, from the tally that triggers keep, and make one change of many. Called by admission,
-- services.create_topic and the sweep under `lock_quota`, which also keeps two from merging the same changes; as a
-- statement of its own, because a snapshot taken before the lock would miss what its last holder did.
WITH merged AS (
  DELETE FROM topics_topictally
  WHERE (SELECT count(*) > 64 FROM (SELECT FROM topics_topictally LIMIT 65) AS enough)
  RETURNING change
), whole AS (
  INSERT INTO topics_topictally (change) SELECT sum(change) FROM merged HAVING count(*) > 0
)
-- Sees what was there before the statement: all that is merged, and not what it becomes.
SELECT coalesce(sum(change), 0)::bigint AS topics FROM topics_topictally
