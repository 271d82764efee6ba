-- Let one process at a time sweep, at most every `every` seconds; tell it how long nobody did. Called by
-- transitions.take_sweep; primary key of runs_sweep.
INSERT INTO runs_sweep AS s (name, ran_at) VALUES (%(name)s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET previous_at = s.ran_at, ran_at = clock_timestamp()
WHERE s.ran_at < clock_timestamp() - make_interval(secs => %(every)s)
RETURNING extract(epoch FROM ran_at - previous_at)::float8 AS pause
