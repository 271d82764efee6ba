-- Delete up to `batch` idempotency keys of each topic whose window has passed, or whose topic is gone. Called by
-- disk.remains; steps from topic to topic along the primary key, then along idempotency_key_by_age.
WITH RECURSIVE topic AS (
  (SELECT topic_id FROM topics_idempotencykey ORDER BY topic_id LIMIT 1)
UNION ALL
  SELECT (SELECT k.topic_id FROM topics_idempotencykey k WHERE k.topic_id > t.topic_id ORDER BY k.topic_id LIMIT 1)
  FROM topic t
  WHERE t.topic_id IS NOT NULL
), aged AS (
  SELECT t.topic_id,
         CASE WHEN owner.id IS NULL THEN 9223372036854775807
           ELSE %(now)s::bigint - least(owner.idempotency_window_ms, %(now)s::bigint)::bigint END AS before
  FROM topic t
  LEFT JOIN topics_topic owner ON owner.id = t.topic_id
  WHERE t.topic_id IS NOT NULL
), expired AS MATERIALIZED (
  SELECT a.topic_id, k.key, a.before
  FROM aged a
  CROSS JOIN LATERAL (
    SELECT key FROM topics_idempotencykey WHERE topic_id = a.topic_id AND created_ts < a.before
    ORDER BY created_ts
    LIMIT %(batch)s::int
  ) AS k
)
DELETE FROM topics_idempotencykey k
USING expired x
-- Said again: a key that is used anew at this moment is looked at once more, with its new time.
WHERE k.topic_id = x.topic_id AND k.key = x.key AND k.created_ts < x.before
