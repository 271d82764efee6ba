-- List the segments of the log by their bounds: ids from `low` (null: no bound) to below `high`. Called by disk.segments;
-- reads the catalog, where the bounds are kept as an expression.
SELECT c.relname AS name, i.inhdetachpending AS detaching,
       (regexp_match(b.bounds, 'FROM \(''(-?\d+)''\)'))[1]::bigint AS low,
       (regexp_match(b.bounds, 'TO \(''(-?\d+)''\)'))[1]::bigint AS high
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS b (bounds)
WHERE i.inhparent = 'topics_event'::regclass
ORDER BY low NULLS FIRST
