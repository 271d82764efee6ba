-- Take blobs off the list of those that no object has, and return those that were on it: the caller removes them before it
-- commits, so that what isn't removed stays listed.
-- Called by uploads. Index: storage_leftover_pkey.
DELETE FROM storage_leftover l
USING (
  SELECT o.blob FROM storage_leftover o WHERE o.blob = ANY (%(blobs)s::text[]) ORDER BY o.blob FOR UPDATE
) AS found
WHERE l.blob = found.blob
RETURNING l.blob
