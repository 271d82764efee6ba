-- Read a topic: its config, marks and counters. Called by descriptions.get_topic_state; index topic_once_per_name.
SELECT id, name, kind, ttl_ms, cap_records, cap_bytes, discard, durability, priority, auto_priority, auto_create,
       idempotency_window_ms, dedupe_node, lease_ms, claim_jitter_ms, max_deliveries, dead_letter, leases_durable,
       head, earliest, count, bytes, last_write_ts, last_read_ts, last_consumed_ts,
       -- Nothing is told until retention, or what a crash of Postgres left, has been written down (B.4, B.12).
       (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
         -- Nor before what was written to the source of a router is here (§16.4).
         OR (is_fed AND topics_is_owed(id)) AS unsettled
FROM topics_topic t
WHERE name = %(name)s::text
