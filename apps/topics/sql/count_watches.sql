-- Return how many watch sessions are stored and in use. Called by watch.sessions; index watchsession_by_expiry.
SELECT count(*) AS sessions FROM topics_watchsession WHERE expires_ts >= %(now)s::bigint
