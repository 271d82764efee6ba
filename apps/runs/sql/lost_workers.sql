-- Mark the workers that have been silent for too long as lost, and return them. Called by transitions.lose_workers;
-- index worker_alive. Judged by Postgres's clock, like heartbeats; a server that has just started waits first, so
-- that its own absence is not taken for theirs. A heartbeat far ahead is from before the clock was set back.
UPDATE runs_worker
SET state = 'LOST'
WHERE id IN (
    SELECT id FROM runs_worker
    WHERE state <> 'LOST'
      AND heartbeat_at NOT BETWEEN now() - make_interval(secs => %(lost_seconds)s)
                               AND now() + make_interval(secs => %(lost_seconds)s)
      AND pg_postmaster_start_time() NOT BETWEEN now() - make_interval(secs => %(lost_seconds)s) AND now()
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED)
RETURNING id
