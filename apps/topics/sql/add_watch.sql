-- Store a watch session unless there are as many as may be; returns its row if it was stored. Called by watch.sessions,
-- under `lock_watches` and as a statement of its own, because a snapshot taken before the lock would miss others. Counts
-- by index watchsession_by_expiry.
INSERT INTO topics_watchsession (wid, key_id, subscription, positions, expires_ts)
SELECT %(wid)s::text, %(key_id)s::uuid, %(subscription)s::text::jsonb, %(positions)s::text::jsonb, %(expires_ts)s::bigint
WHERE %(most)s::int = 0
  OR (SELECT count(*) FROM topics_watchsession WHERE expires_ts >= %(now)s::bigint) < %(most)s::int
RETURNING wid, set_config('synchronous_commit', 'off', true) AS commits
