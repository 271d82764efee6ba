-- Lock the next runs that a worker could take one by one, in claim order; those other workers look at are skipped.
-- Called by scheduling.claim; index run_claimable. What fits together is decided by placement.place.
-- prefixes, owner: only what a key limited to these names may see, by the rule of RunQuerySet.visible_to; none = everything.
-- Rows behind a starving run (starving_priority, starving_id) are left to it (runs.md §4).
-- The conditions stand in a CASE because Postgres can't guess how many rows pass each of them: multiplied, its guesses say
-- that hardly any does, and it sorts the whole queue for each claim instead of walking the index until it has enough.
SELECT id, state, progress, current_attempt, event_count, failures, losses, retry_policy, topic, attributes,
       output_specs, NULL::jsonb AS outputs, queued_at, scheduled_at,
       assigned_at, started_at, finished_at, worker_id, lease, gpu, handle, message_offset, exit_code, error_message,
       cancel_requested_at, cancel_reason, execution_id,
       cpu, ram_mb, vram_mb, gpu_id, executor, image, command, python, env, inputs, timeout_s, stage
FROM runs_run
WHERE state = 'PENDING'
  AND CASE WHEN (scheduled_at IS NULL OR scheduled_at <= %(now)s::timestamptz)
  AND id <> ALL(%(taken)s::uuid[])
  AND executor = ANY(%(executors)s::text[])
  AND tags <@ %(tags)s::text[]
  AND COALESCE(cpu, 0) <= %(cpu)s::int
  AND COALESCE(ram_mb, 0) <= %(ram_mb)s::int
  -- As in placement.Capacity.holds: one that can't be placed would take the place of those behind it in this list.
  AND (vram_mb IS NULL AND gpu_id IS NULL OR EXISTS (
        SELECT 1 FROM unnest(%(gpu_ids)s::int[], %(vram_frees)s::int[]) AS g (id, vram_mb)
        WHERE (runs_run.gpu_id IS NULL OR runs_run.gpu_id = g.id) AND COALESCE(runs_run.vram_mb, 0) <= g.vram_mb))
  AND (cardinality(%(prefixes)s::text[]) = 0 OR created_by = %(owner)s::text
       OR COALESCE(op_definition, topic) ^@ ANY(%(prefixes)s::text[]))
  AND (%(starving_id)s::uuid IS NULL OR priority > %(starving_priority)s::int
       OR (priority = %(starving_priority)s::int AND id < %(starving_id)s::uuid))
  THEN true ELSE false END
ORDER BY priority DESC, id
LIMIT %(limit)s::int
FOR NO KEY UPDATE SKIP LOCKED
