-- List blobs as ones that no object has; each may be removed when it is due.
-- Called by uploads. Index: storage_leftover_pkey.
INSERT INTO storage_leftover (blob, due_at)
SELECT * FROM unnest(%(blobs)s::text[], %(due)s::timestamptz[])
