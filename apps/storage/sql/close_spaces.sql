-- Close the storage of executions: waits for those who are writing, whoever comes later is refused. Called by
-- services.close_spaces, in the transaction that ends them. Index: storage_space_pkey.
UPDATE storage_space SET closed_at = %(now)s::timestamptz WHERE execution_id = ANY (%(executions)s::uuid[])
