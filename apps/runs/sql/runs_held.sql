-- What a worker holds: for its free resources, and for what it must stop. Called by transitions.runs_held; index run_held.
SELECT id, state, current_attempt, lease, cpu, ram_mb, vram_mb, gpu_id, gpu, cancel_requested_at
FROM runs_run
WHERE worker_id = %(worker_id)s::text AND state IN ('ASSIGNED', 'RUNNING')
