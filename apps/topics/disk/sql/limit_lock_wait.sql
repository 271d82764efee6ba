-- Wait for locks at most so long, until the transaction ends or, if not `in_transaction`, until `unlimit_lock_wait`.
-- Called by disk.segments.
SELECT set_config('lock_timeout', %(milliseconds)s::text, %(in_transaction)s)
