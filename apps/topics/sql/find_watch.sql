-- Look up a watch session that is still in use. Called by watch.sessions; primary key of topics_watchsession.
SELECT key_id, subscription::text
FROM topics_watchsession
WHERE wid = %(wid)s::text AND expires_ts >= %(now)s::bigint
