-- Note that smaller ids than `last_id` were drawn by transactions that have begun by now. Called by disk.segments after
-- `read_last_id`, as a statement of its own: this snapshot must be younger than what was read. A writer has its
-- transaction id, by locking the topic, before it draws ids.
INSERT INTO topics_horizon (id, ends_before) VALUES (%(last_id)s, pg_snapshot_xmax(pg_current_snapshot()))
ON CONFLICT (one) DO UPDATE SET id = excluded.id, ends_before = excluded.ends_before
