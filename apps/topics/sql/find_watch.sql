-- Look up a watch session that is still in use. Called by watch.sessions; primary key of topics_watchsession.
-- The subscription is a JSON string that holds its text.
SELECT key_id, subscription #>> '{}' AS subscription
FROM topics_watchsession
WHERE wid = %(wid)s::text AND expires_ts >= %(now)s::bigint
