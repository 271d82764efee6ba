-- List segments that were detached and not dropped, by a process that died in between. Called by disk.segments; reads
-- the catalog.
SELECT c.relname AS name
FROM pg_class c
JOIN pg_class log ON log.oid = 'topics_event'::regclass AND log.relnamespace = c.relnamespace
WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relname ~ '^topics_event_\d+$'
