-- Take the waiting claims of this process, with what they were given; `seqs` is null for those that nobody has served.
-- Called by windows under the queue's lock; index topics_waitingclaim_pkey.
DELETE FROM topics_waitingclaim
WHERE id = ANY (%(tickets)s::bigint[])
RETURNING id, node, most, lease_ms, is_pushed, seqs, leases
