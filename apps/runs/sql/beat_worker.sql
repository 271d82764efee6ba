-- Say that a worker is alive and lock its row: claims of one worker follow each other, so what is free is exact.
-- Called by transitions.beat_worker; primary key of runs_worker. A worker that was lost comes back READY.
UPDATE runs_worker
SET heartbeat_at = now(), state = CASE WHEN state = 'LOST' THEN 'READY' ELSE state END
WHERE id = %(worker_id)s::text
RETURNING id, state, executors, slots, cpu, ram_mb, gpus, tags
