-- Wait for the turn to spend what is limited over all topics. Called by admission, before any topic's lock is taken.
SELECT pg_advisory_xact_lock(hashtext('topics quota'))
