-- Lease the next jobs of a locked queue: returned ones first, then fresh ones, each in seq order (§18.3), to the
-- claimers to whom `slots` deals them, one element per job. Called by passes; indexes job_returned, the keys
-- of the segments.
--
-- claimed: the newest seq that was ever delivered, so that no backlog is scanned. exhausted_at: a returned job that was
-- delivered so often is passed over; null if there is no such limit. nodes, dues, pushed: one element per claimer.
-- budget: stop before the job with which the payloads would outgrow it.
WITH topic AS MATERIALIZED (
  SELECT id, head, earliest FROM topics_topic WHERE id = %(topic_id)s::bigint
), returned AS MATERIALIZED (
  SELECT j.seq, j.deliveries FROM topic t, LATERAL (
    SELECT r.seq, r.deliveries FROM topics_job r
    WHERE r.topic_id = %(topic_id)s::bigint AND r.state = 0 AND r.seq >= t.earliest
      AND coalesce(r.deliveries < %(exhausted_at)s::int, true)
    ORDER BY r.seq
    LIMIT cardinality(%(slots)s::int[])
  ) AS j
), fresh AS MATERIALIZED (
  SELECT e.* FROM topic t, LATERAL (
    SELECT f.seq, f.ts, f.size, f.tag, f.data, f.meta FROM topics_event f
    WHERE f.topic_id = %(topic_id)s::bigint AND f.seq > %(claimed)s::bigint AND f.seq >= t.earliest AND f.seq <= t.head
    ORDER BY f.seq
    LIMIT cardinality(%(slots)s::int[]) - (SELECT count(*) FROM returned)
  ) AS e
), candidates AS (
  SELECT e.seq, e.ts, e.size, e.tag, e.data, e.meta, r.deliveries + 1 AS deliveries
  -- LIMIT, so that it can't be planned as a scan of all records.
  FROM returned r CROSS JOIN LATERAL (
    SELECT * FROM topics_event WHERE topic_id = %(topic_id)s::bigint AND seq = r.seq LIMIT 1
  ) AS e
UNION ALL
  SELECT f.seq, f.ts, f.size, f.tag, f.data, f.meta, 1 FROM fresh f
), ordered AS (
  SELECT c.*, row_number() OVER w AS place, sum(c.size) OVER w AS total
  FROM candidates c
  WINDOW w AS (ORDER BY c.seq ROWS UNBOUNDED PRECEDING)
), dealt AS MATERIALIZED (
  SELECT o.*, s.claimer, c.node, c.due, c.is_pushed, %(last_lease)s::bigint + o.place AS lease
  FROM ordered o
  JOIN unnest(%(slots)s::int[]) WITH ORDINALITY AS s (claimer, place) ON s.place = o.place
  JOIN unnest(%(nodes)s::text[], %(dues)s::bigint[], %(pushed)s::smallint[]) WITH ORDINALITY
    AS c (node, due, is_pushed, number) ON c.number = s.claimer
  WHERE o.place = 1 OR o.total <= %(budget)s::bigint
), first_time AS (
  INSERT INTO topics_job (topic_id, seq, due, lease, deliveries, state, is_pushed, node)
  SELECT %(topic_id)s::bigint, d.seq, d.due, d.lease, 1, 1, d.is_pushed = 1, d.node
  FROM dealt d WHERE d.seq > %(claimed)s::bigint
), again AS (
  UPDATE topics_job j
  SET state = 1, due = d.due, lease = d.lease, node = d.node, is_pushed = d.is_pushed = 1, deliveries = d.deliveries
  FROM dealt d
  WHERE j.topic_id = %(topic_id)s::bigint AND j.seq = ANY (ARRAY (SELECT seq FROM returned))
    AND j.seq = d.seq AND d.seq <= %(claimed)s::bigint
)
SELECT d.claimer, d.seq, d.lease, d.due, d.ts, d.tag, d.deliveries, d.data, d.meta
FROM dealt d
ORDER BY d.place
