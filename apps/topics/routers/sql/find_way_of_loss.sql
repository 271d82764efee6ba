-- Tell of a loss how many routers what the source was told of has come through (`hops`), how many there are on the way down
-- from the destination to the source (`steps`, null unless the router between the two closes a circle), and how many seqs of
-- a range stand for what the source was told of, as far as gaps tell (`told`). A topic is fed from one other only, so there
-- is one way up. Called by routers.forwarding; the routers' index by dest, primary key of topics_gap.
WITH RECURSIVE way (id, steps, seen) AS (
  SELECT %(source_id)s::bigint, 0, ARRAY[%(source_id)s::bigint]
UNION ALL
  SELECT r.source_id, w.steps + 1, w.seen || r.source_id
  FROM way w
  CROSS JOIN LATERAL (SELECT source_id FROM topics_router WHERE dest_id = w.id LIMIT 1) AS r
  WHERE w.id <> %(dest_id)s::bigint AND r.source_id <> ALL (w.seen)
)
SELECT coalesce((SELECT max(lost_hops) FROM topics_router WHERE dest_id = %(source_id)s::bigint), 0) AS hops,
       (SELECT steps FROM way WHERE id = %(dest_id)s::bigint) AS steps,
       (SELECT coalesce(sum(least(last_seq, %(until)s::bigint) - greatest(first_seq - 1, %(after)s::bigint)), 0)::bigint
        FROM topics_gap
        WHERE topic_id = %(source_id)s::bigint AND last_seq > %(after)s::bigint
          AND first_seq <= %(until)s::bigint) AS told
