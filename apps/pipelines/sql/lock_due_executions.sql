-- Lock executions that are to be advanced now, longest due first; those somebody else is at are passed over. Called by
-- liveexecutions; index execution_due. What it returns is what lock_executions does.
SELECT id, pipeline_id, pipeline_version, status, is_queued, tag, document, inputs, metadata, error_info, attempt, hops,
       parent_id, parent_stage, root_correlation_id, created_by, prefixes, started_at, completed_at, retry_at,
       cancel_requested_at, cancel_reason, wake_at, deadline_at, source_id,
       CASE WHEN octet_length(trigger) <= %(long_bytes)s::int THEN trigger END AS trigger,
       coalesce(octet_length(trigger) > %(long_bytes)s::int, false) AS has_long_trigger
FROM pipelines_execution
WHERE wake_at <= %(now)s::timestamptz AND status = 'running' AND NOT is_queued
ORDER BY wake_at
LIMIT %(most)s::int
FOR NO KEY UPDATE SKIP LOCKED
