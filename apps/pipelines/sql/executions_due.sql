-- Which executions are to be advanced now; those somebody else is at are passed over. Called by engine.run_once; index
-- execution_due.
SELECT id FROM pipelines_execution
WHERE wake_at <= %(now)s::timestamptz AND status = 'running' AND NOT is_queued
ORDER BY wake_at
LIMIT %(limit)s::int
FOR NO KEY UPDATE SKIP LOCKED
