-- Tell how many routers a loss has come through that a topic was told of (`hops`), and how many there are on the way down
-- from a destination to it: null unless a router between the two closes a circle. A topic is fed from one other only, so
-- there is one way up. Called by routers.forwarding; the routers' index by dest.
WITH RECURSIVE way (id, steps, seen) AS (
  SELECT %(source_id)s::bigint, 0, ARRAY[%(source_id)s::bigint]
UNION ALL
  SELECT r.source_id, w.steps + 1, w.seen || r.source_id
  FROM way w
  CROSS JOIN LATERAL (SELECT source_id FROM topics_router WHERE dest_id = w.id LIMIT 1) AS r
  WHERE w.id <> %(dest_id)s::bigint AND r.source_id <> ALL (w.seen)
)
SELECT coalesce((SELECT max(lost_hops) FROM topics_router WHERE dest_id = %(source_id)s::bigint), 0) AS hops,
       (SELECT steps FROM way WHERE id = %(dest_id)s::bigint) AS steps
