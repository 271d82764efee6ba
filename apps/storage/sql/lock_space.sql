-- Lock a space until the transaction ends, however long somebody else has it. Row as `lock_free_spaces` returns it.
-- NO KEY: objects reference it.
-- Called by ledger.lock_space. Index: storage_space_pkey.
SELECT s.execution_id, s.tag, s.correlation_id, s.count, s.bytes, s.closed_at
FROM storage_space s
WHERE s.execution_id = %(execution_id)s::uuid
FOR NO KEY UPDATE OF s
