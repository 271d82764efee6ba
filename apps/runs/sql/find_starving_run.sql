-- Find the first waiting run that this worker could hold when empty, can't hold now, and that has waited too long.
-- Called by scheduling.claim; index run_demanding: only runs that declare a need are looked at, and of those that the
-- worker could hold the first `most`. A claim takes no more, so what starves behind them has its turn when it comes nearer;
-- a queue of any length would otherwise be read for each claim. prefixes, owner and the CASE: as in claim_candidates.
SELECT id, priority
FROM (
  SELECT id, priority, cpu, ram_mb, vram_mb, gpu_id, GREATEST(queued_at, scheduled_at) AS waiting_from
  FROM runs_run
  WHERE state = 'PENDING'
    AND (cpu IS NOT NULL OR ram_mb IS NOT NULL OR vram_mb IS NOT NULL OR gpu_id IS NOT NULL)
    AND CASE WHEN executor = ANY(%(executors)s::text[])
    AND tags <@ %(tags)s::text[]
    AND (cardinality(%(prefixes)s::text[]) = 0 OR created_by = %(owner)s::text
         OR COALESCE(op_definition, topic) ^@ ANY(%(prefixes)s::text[]))
    AND COALESCE(cpu, 0) <= %(cpu_total)s::int
    AND COALESCE(ram_mb, 0) <= %(ram_mb_total)s::int
    AND (vram_mb IS NULL AND gpu_id IS NULL OR EXISTS (
          SELECT 1 FROM unnest(%(gpu_ids)s::int[], %(vram_totals)s::int[]) AS g (id, vram_mb)
          WHERE (runs_run.gpu_id IS NULL OR runs_run.gpu_id = g.id) AND COALESCE(runs_run.vram_mb, 0) <= g.vram_mb))
    THEN true ELSE false END
  ORDER BY priority DESC, id
  LIMIT %(most)s::int
) AS front
WHERE waiting_from <= %(waiting_since)s::timestamptz
  AND NOT (COALESCE(cpu, 0) <= %(cpu_free)s::int
           AND COALESCE(ram_mb, 0) <= %(ram_mb_free)s::int
           AND (vram_mb IS NULL AND gpu_id IS NULL OR EXISTS (
                 SELECT 1 FROM unnest(%(gpu_ids)s::int[], %(vram_frees)s::int[]) AS g (id, vram_mb)
                 WHERE (front.gpu_id IS NULL OR front.gpu_id = g.id)
                   AND COALESCE(front.vram_mb, 0) <= g.vram_mb)))
ORDER BY priority DESC, id
LIMIT 1
