-- Return those of some executions that are still written to. Called by the log of the event stream, before it reads what
-- they have written: who closes a space waits for those who write. Index: storage_space_pkey.
SELECT execution_id FROM storage_space
WHERE execution_id = ANY(%(execution_ids)s::uuid[]) AND closed_at IS NULL
