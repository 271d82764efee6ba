-- Create a topic with a config unless it exists; returns its id if this call created it. Called by admission; index
-- topic_once_per_name. A caller that creates several does so in name order.
INSERT INTO topics_topic (
  name, kind, ttl_ms, cap_records, cap_bytes, discard, durability, priority, auto_priority, auto_create,
  idempotency_window_ms, dedupe_node, lease_ms, claim_jitter_ms, max_deliveries, dead_letter, leases_durable)
VALUES (
  %(name)s, %(kind)s, %(ttl_ms)s::numeric, %(cap_records)s::numeric, %(cap_bytes)s::numeric, %(discard)s,
  %(durability)s, %(priority)s::int, %(auto_priority)s, %(auto_create)s, %(idempotency_window_ms)s::numeric,
  %(dedupe_node)s, %(lease_ms)s::bigint, %(claim_jitter_ms)s::int, %(max_deliveries)s::numeric, %(dead_letter)s,
  %(leases_durable)s)
ON CONFLICT (name) DO NOTHING
RETURNING id
