-- Find the first waiting run that this worker could hold when empty, can't hold now, and that has waited too long.
-- Called by scheduling.claim; index run_demanding: only runs that declare a need are looked at. prefixes, owner: as in
-- claim_candidates.
SELECT id, priority
FROM runs_run
WHERE state = 'PENDING'
  AND (cpu IS NOT NULL OR ram_mb IS NOT NULL OR vram_mb IS NOT NULL OR gpu_id IS NOT NULL)
  AND GREATEST(queued_at, scheduled_at) <= %(waiting_since)s
  AND executor = ANY(%(executors)s)
  AND tags <@ %(tags)s
  AND (cardinality(%(prefixes)s::text[]) = 0 OR created_by = %(owner)s
       OR COALESCE(op_definition, topic) ^@ ANY(%(prefixes)s::text[]))
  AND COALESCE(cpu, 0) <= %(cpu_total)s
  AND COALESCE(ram_mb, 0) <= %(ram_mb_total)s
  AND (vram_mb IS NULL AND gpu_id IS NULL OR EXISTS (
        SELECT 1 FROM unnest(%(gpu_ids)s::int[], %(vram_totals)s::int[]) AS g (id, vram_mb)
        WHERE (runs_run.gpu_id IS NULL OR runs_run.gpu_id = g.id) AND COALESCE(runs_run.vram_mb, 0) <= g.vram_mb))
  AND NOT (COALESCE(cpu, 0) <= %(cpu_free)s
           AND COALESCE(ram_mb, 0) <= %(ram_mb_free)s
           AND (vram_mb IS NULL AND gpu_id IS NULL OR EXISTS (
                 SELECT 1 FROM unnest(%(gpu_ids)s::int[], %(vram_frees)s::int[]) AS g (id, vram_mb)
                 WHERE (runs_run.gpu_id IS NULL OR runs_run.gpu_id = g.id)
                   AND COALESCE(runs_run.vram_mb, 0) <= g.vram_mb)))
ORDER BY priority DESC, id
LIMIT 1
