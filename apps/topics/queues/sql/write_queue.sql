-- Store the counters of a locked queue at the end of its transaction; `relaxed` commits without waiting for the disk.
-- Called by passes and services; index topics_queue_pkey.
UPDATE topics_queue
SET claimed = %(claimed)s::bigint,
    last_lease = %(last_lease)s::bigint,
    leased = %(leased)s::bigint,
    delayed = %(delayed)s::bigint,
    dead_lettered = %(dead_lettered)s::bigint,
    swept_due = %(swept_due)s::bigint,
    reaped = %(reaped)s::bigint,
    window_until = %(window_until)s::bigint
WHERE topic_id = %(topic_id)s::bigint
-- Read when the transaction commits, and forgotten with it.
RETURNING CASE WHEN %(relaxed)s THEN set_config('synchronous_commit', 'off', true) END AS commits
