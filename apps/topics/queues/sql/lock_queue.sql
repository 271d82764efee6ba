-- Lock a queue until the transaction ends, and return its counters and what its topic says of jobs; no row if there is
-- none, or not yet (open_queue). Called by passes and services; indexes topic_once_per_name, topics_queue_pkey.
-- Nothing of the topic's own counters is read here: while this waits for the lock, they may change.
SELECT t.id AS topic_id, t.lease_ms, t.claim_jitter_ms, t.max_deliveries, t.dead_letter,
       t.durability = 'fsync' AS is_flushed, t.leases_durable,
       q.claimed, q.last_lease, q.leased, q.delayed, q.dead_lettered, q.swept_due, q.reaped, q.window_until, q.is_paused,
       -- A crash of Postgres has emptied the table of marks, and may have lost the newest lease numbers.
       EXISTS (SELECT FROM topics_queue_intact i WHERE i.topic_id = q.topic_id) AS is_intact,
       -- Nothing is claimed until retention, or what a crash of Postgres left, has been written down (B.4, B.12).
       (t.ttl_ms > 0 AND coalesce(t.earliest_ts < %(now)s::bigint - t.ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
         -- Nor before what was written to the source of a router is here (§16.4).
         OR (t.is_fed AND topics_is_owed(t.id)) AS unsettled
FROM topics_topic t
JOIN topics_queue q ON q.topic_id = t.id
WHERE t.name = %(name)s::text
FOR NO KEY UPDATE OF q
