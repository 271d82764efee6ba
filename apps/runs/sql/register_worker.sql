-- Register a worker of ours, or refresh what it offers after a restart; returns its row. No row if the name belongs to
-- another one that is not known to be lost: two at a time would run each other's ops.
-- Called by scheduling.register_worker; primary key of runs_worker.
INSERT INTO runs_worker AS w (id, instance, kind, state, executors, slots, cpu, ram_mb, gpus, tags, hostname, owner,
                              registered_at, heartbeat_at)
VALUES (%(worker_id)s, %(instance)s, 'celery', 'READY', %(executors)s::text[], %(slots)s, %(cpu)s, %(ram_mb)s,
        %(gpus)s::jsonb, %(tags)s::text[], %(hostname)s, '', now(), now())
ON CONFLICT (id) DO UPDATE
SET instance = excluded.instance, kind = excluded.kind, state = excluded.state, executors = excluded.executors,
    slots = excluded.slots, cpu = excluded.cpu, ram_mb = excluded.ram_mb, gpus = excluded.gpus, tags = excluded.tags,
    hostname = excluded.hostname, owner = excluded.owner, heartbeat_at = excluded.heartbeat_at
WHERE w.instance = excluded.instance AND w.kind = excluded.kind OR w.state = 'LOST'
RETURNING id
