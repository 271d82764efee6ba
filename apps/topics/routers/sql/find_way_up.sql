-- Go from a topic to the one that routers feed it from, and on, up to `top`, over routers other than `router`; a topic is
-- fed from one topic only, so there is one way. Returns the names on it, from the bottom. Called by routers.topology;
-- index topic_once_per_name, the routers' by dest.
WITH RECURSIVE way (id, name, steps, seen) AS (
  SELECT t.id, t.name, 0, ARRAY[t.id] FROM topics_topic t WHERE t.name = %(bottom)s::text
UNION ALL
  SELECT s.id, s.name, w.steps + 1, w.seen || s.id
  FROM way w
  CROSS JOIN LATERAL (
    SELECT r.source_id FROM topics_router r WHERE r.dest_id = w.id AND r.name <> %(router)s::text LIMIT 1
  ) AS r
  JOIN topics_topic s ON s.id = r.source_id
  -- A circle that was allowed ends the way, too.
  WHERE w.name <> %(top)s::text AND s.id <> ALL (w.seen)
)
SELECT name FROM way ORDER BY steps
