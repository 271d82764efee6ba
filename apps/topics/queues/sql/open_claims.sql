-- The claims of other processes that wait in a queue's window; those whose process must have died are thrown away.
-- Called by windows under the queue's lock, by the process that ends the window. The table is as small as the windows
-- that are open.
WITH stale AS (
  DELETE FROM topics_waitingclaim WHERE topic_id = %(topic_id)s::bigint AND filed_ts < %(stale_ts)s::bigint
)
SELECT id, node, most, lease_ms, is_pushed
FROM topics_waitingclaim
WHERE topic_id = %(topic_id)s::bigint AND seqs IS NULL AND filed_ts >= %(stale_ts)s::bigint
ORDER BY id
