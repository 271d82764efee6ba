-- Tell the waiting claims of other processes what they were given: one element of owners, seqs and leases per job. Called
-- by windows under the queue's lock; index topics_waitingclaim_pkey.
WITH given AS (
  SELECT g.owner, array_agg(g.seq ORDER BY g.seq) AS seqs, array_agg(g.lease ORDER BY g.seq) AS leases
  FROM unnest(%(owners)s::bigint[], %(seqs)s::bigint[], %(leases)s::bigint[]) AS g (owner, seq, lease)
  GROUP BY g.owner
)
UPDATE topics_waitingclaim w
SET seqs = coalesce((SELECT g.seqs FROM given g WHERE g.owner = w.id), '{}'),
    leases = coalesce((SELECT g.leases FROM given g WHERE g.owner = w.id), '{}')
WHERE w.id = ANY (%(tickets)s::bigint[])
