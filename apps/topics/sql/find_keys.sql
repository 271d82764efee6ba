-- Look up writes made under these idempotency keys. Called by admission, which holds the topics' locks, so that what
-- is found is all there is; primary key of topics_idempotencykey.
SELECT k.topic_id, k.key, k.created_ts, k.first_seq, k.last_seq
FROM unnest(%(topic_ids)s::bigint[], %(keys)s::bytea[]) AS w (topic_id, key)
JOIN topics_idempotencykey k ON k.topic_id = w.topic_id AND k.key = w.key
