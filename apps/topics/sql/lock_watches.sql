-- Wait for the turn to make a watch session, which there may be only so many of. Called by watch.sessions.
SELECT pg_advisory_xact_lock(hashtext('topics watch sessions'))
