-- Remove watch sessions that nobody has used for too long. Called by watch.sessions; index watchsession_by_expiry.
DELETE FROM topics_watchsession
WHERE wid IN (
  SELECT wid FROM topics_watchsession
  WHERE expires_ts < %(now)s::bigint
  LIMIT 1000
  FOR UPDATE SKIP LOCKED
)
