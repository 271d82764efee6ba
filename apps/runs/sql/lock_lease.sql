-- Lock a run until the transaction ends, if it is still held under a lease: one row, or none. Called by
-- scheduling.lock_lease, once for each file that an op leaves; index: runs_run_pkey. Only who holds resources has a lease.
SELECT 1
FROM runs_run
WHERE id = %(run_id)s::uuid AND current_attempt = %(attempt)s::int AND lease = %(lease)s::text
FOR NO KEY UPDATE
