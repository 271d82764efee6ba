-- Store the keys of the writes that this transaction makes; a key whose window has passed is used again. Called by
-- admission; primary key of topics_idempotencykey.
INSERT INTO topics_idempotencykey (topic_id, key, created_ts, first_seq, last_seq)
SELECT * FROM unnest(%(topic_ids)s::bigint[], %(keys)s::bytea[], %(times)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[])
ON CONFLICT (topic_id, key) DO UPDATE
SET created_ts = excluded.created_ts, first_seq = excluded.first_seq, last_seq = excluded.last_seq
