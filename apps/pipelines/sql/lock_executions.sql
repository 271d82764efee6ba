-- Lock executions, in id order so that two turns can't deadlock, waiting for whoever is at them. Called by
-- liveexecutions; primary key of pipelines_execution. NO KEY: stages reference them.
-- long_bytes: messages that are longer are left where they are; has_long_trigger says so.
SELECT id, pipeline_id, pipeline_version, status, is_queued, tag, document, inputs, metadata, error_info, attempt, hops,
       parent_id, parent_stage, root_correlation_id, created_by, prefixes, started_at, completed_at, retry_at,
       cancel_requested_at, cancel_reason, wake_at, deadline_at, source_id,
       CASE WHEN octet_length(trigger) <= %(long_bytes)s::int THEN trigger END AS trigger,
       coalesce(octet_length(trigger) > %(long_bytes)s::int, false) AS has_long_trigger
FROM pipelines_execution
WHERE id = ANY (%(ids)s::uuid[])
ORDER BY id
FOR NO KEY UPDATE
