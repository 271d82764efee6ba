-- List the common prefixes of names that begin with `low`: those up to the next slash behind it, each once. One index
-- look-up for each: from a folder to the first one behind all that it holds ('0' follows '/').
-- Called by listing.page. Indexes: object_by_folder for the steps, object_once_per_name to see that one holds what is
-- asked for.
WITH RECURSIVE walk AS (
  (
    SELECT %(low)s || split_part(substr(o.folder, length(%(low)s) + 1), '/', 1) || '/' AS prefix
    FROM storage_object o
    WHERE o.space_id = %(space_id)s AND o.folder > %(low)s AND o.folder < %(high)s
    ORDER BY o.folder
    LIMIT 1
  )
  UNION ALL
  SELECT found.prefix
  FROM walk w
  CROSS JOIN LATERAL (
    SELECT %(low)s || split_part(substr(o.folder, length(%(low)s) + 1), '/', 1) || '/' AS prefix
    FROM storage_object o
    WHERE o.space_id = %(space_id)s AND o.folder >= left(w.prefix, -1) || '0' AND o.folder < %(high)s
    ORDER BY o.folder
    LIMIT 1
  ) AS found
)
SELECT w.prefix
FROM walk w
WHERE (%(stage)s::text IS NULL AND %(extensions)s::text[] IS NULL)
   OR EXISTS (
     SELECT FROM storage_object o
     WHERE o.space_id = %(space_id)s
       AND o.name >= w.prefix AND o.name < left(w.prefix, -1) || '0'
       AND (%(stage)s::text IS NULL OR starts_with(o.stage || '/', %(stage)s))
       AND (%(extensions)s::text[] IS NULL OR o.extension = ANY (%(extensions)s))
   )
