-- Open a stream on a watch session: it counts as used, and with `takes_over` as the only stream it has. Returns where it
-- stood, and how many streams were open, or have ended without a word. Called by watch.sessions; primary key.
WITH before AS (
  SELECT wid, streams FROM topics_watchsession
  WHERE wid = %(wid)s::text AND expires_ts >= %(now)s::bigint
  FOR UPDATE
)
UPDATE topics_watchsession w
SET expires_ts = greatest(w.expires_ts, %(expires_ts)s::bigint),
    epoch = w.epoch + CASE WHEN %(takes_over)s THEN 1 ELSE 0 END,
    streams = CASE WHEN %(takes_over)s THEN 1 ELSE b.streams + 1 END
FROM before b
WHERE w.wid = b.wid
RETURNING w.epoch, w.positions::text, b.streams AS open_before,
          -- §17.2: a session may be lost with a crash, so that nobody waits for the disk.
          set_config('synchronous_commit', 'off', true) AS commits
