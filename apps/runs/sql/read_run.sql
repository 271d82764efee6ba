-- Read one run, for the streams (runs.streams). Primary key.
SELECT * FROM runs_run WHERE id = %(run_id)s
