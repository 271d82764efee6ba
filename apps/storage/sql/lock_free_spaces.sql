-- Lock spaces until the transaction ends; those that somebody else has locked are passed over, and so nobody waits here
-- while they hold another. Rows are as they are under the lock, whatever the statement's snapshot shows.
-- Called by ledger.lock_free_spaces. Index: storage_space_pkey.
SELECT s.execution_id, s.tag, s.correlation_id, s.count, s.bytes, s.closed_at
FROM storage_space s
WHERE s.execution_id = ANY (%(execution_ids)s::uuid[])
FOR NO KEY UPDATE OF s SKIP LOCKED
