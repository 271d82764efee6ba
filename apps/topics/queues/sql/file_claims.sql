-- Let claimers wait for the end of a coalescing window; returns their tickets, which rise in the order given. Called by
-- windows under the queue's lock.
INSERT INTO topics_waitingclaim (topic_id, node, most, lease_ms, is_pushed, filed_ts)
SELECT %(topic_id)s::bigint, c.node, c.most, c.lease_ms, c.is_pushed = 1, %(now)s::bigint
FROM unnest(%(nodes)s::text[], %(mosts)s::int[], %(leases_ms)s::bigint[], %(pushed)s::smallint[]) WITH ORDINALITY
  AS c (node, most, lease_ms, is_pushed, place)
ORDER BY c.place
RETURNING id
