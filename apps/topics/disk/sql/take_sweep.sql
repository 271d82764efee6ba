-- Take the turn to sweep the log, if nobody has it; it ends with the connection at the latest. Called by disk.sweep.
SELECT pg_try_advisory_lock(hashtext('topics sweep')) AS taken
