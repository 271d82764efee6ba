-- Lock topics in name order until the transaction ends, and return what a write must be judged by. Called by
-- admission; index topic_once_per_name.
SELECT id, name, head, earliest, count, bytes, cap_records, cap_bytes, discard, idempotency_window_ms,
       (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false))
         OR (discard = 'old' AND ((cap_records > 0 AND count > cap_records) OR (cap_bytes > 0 AND bytes > cap_bytes)))
         OR NOT EXISTS (SELECT FROM topics_intact) AS unsettled
FROM topics_topic
WHERE name = ANY (%(names)s::text[])
ORDER BY name
FOR NO KEY UPDATE
