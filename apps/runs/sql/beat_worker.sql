-- Say that a worker is alive and lock its row: claims of one worker follow each other, so what is free is exact.
-- Called by scheduling.beat_worker; primary key of runs_worker. A worker that was lost comes back READY. One that has
-- the name and not the instance is another worker, and gets no row.
UPDATE runs_worker
SET heartbeat_at = now(), state = CASE WHEN state = 'LOST' THEN 'READY' ELSE state END
WHERE id = %(worker_id)s::text AND instance = %(instance)s::text
RETURNING id, state, executors, slots, cpu, ram_mb, gpus, tags
