-- Find the present attempts of runs, and their executions.
-- Called by queries.executions_of. Index: runs_run_pkey.
SELECT r.id, r.state, r.current_attempt, r.execution_id FROM runs_run r WHERE r.id = ANY (%(run_ids)s::uuid[])
