-- Find spaces by the ids of their executions, or by tags.
-- Called by queries.spaces_to_change. Indexes: storage_space_pkey, storage_space_tag_key.
SELECT s.execution_id, s.tag, s.visible_as, s.reads, s.closed_at
FROM storage_space s
WHERE s.execution_id = ANY (%(execution_ids)s::uuid[])
UNION ALL
SELECT s.execution_id, s.tag, s.visible_as, s.reads, s.closed_at
FROM storage_space s
WHERE s.tag = ANY (%(tags)s::text[])
