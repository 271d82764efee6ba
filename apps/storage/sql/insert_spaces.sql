-- Open the storage of new executions, any number in one statement that is planned once: what nobody has written yet is as
-- the model's defaults have it. Called by services.open_spaces.
INSERT INTO storage_space (execution_id, tag, visible_as, correlation_id, reads, count, bytes, created_at)
SELECT execution_id, tag, visible_as, correlation_id, '{}', 0, 0, %(now)s::timestamptz
FROM unnest(%(executions)s::uuid[], %(tags)s::text[], %(visible_as)s::text[], %(correlation_ids)s::text[])
  AS s (execution_id, tag, visible_as, correlation_id)
