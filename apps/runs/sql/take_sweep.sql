-- Let one process at a time sweep, at most every `every` seconds; tell it for how long sweeps have followed each other
-- without a pause. Called by sweeps.sweep_runs; primary key of runs_sweep.
-- A pause is that nobody swept for `pause` seconds, or that the clock was set back: the last sweep lies ahead then.
INSERT INTO runs_sweep AS s (name, ran_at, steady_since) VALUES (%(name)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET ran_at = clock_timestamp(),
    steady_since = CASE WHEN s.ran_at BETWEEN clock_timestamp() - make_interval(secs => %(pause)s) AND clock_timestamp()
                        THEN s.steady_since ELSE clock_timestamp() END
WHERE s.ran_at NOT BETWEEN clock_timestamp() - make_interval(secs => %(every)s) AND clock_timestamp()
RETURNING extract(epoch FROM ran_at - steady_since)::float8 AS steady_seconds
