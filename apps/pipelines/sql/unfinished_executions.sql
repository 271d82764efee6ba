-- Return those of some executions whose status is not final. Called by the log of their events, before it reads what they
-- have told: an end commits with its event. Index: pipelines_execution_pkey.
SELECT id FROM pipelines_execution
WHERE id = ANY(%(execution_ids)s::uuid[]) AND NOT status = ANY(%(final)s::text[])
