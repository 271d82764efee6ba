-- List a page of what lies in one folder itself, not below it: which names is found in the index alone unless there is
-- something to filter by.
-- Called by listing.page. Index: object_by_folder.
WITH page AS MATERIALIZED (
  SELECT o.name
  FROM storage_object o
  WHERE o.space_id = %(space_id)s
    AND o.folder = %(folder)s AND o.name >= %(low)s AND o.name < %(high)s
    AND (%(stage)s::text IS NULL OR starts_with(o.stage || '/', %(stage)s))
    AND (%(extensions)s::text[] IS NULL OR o.extension = ANY (%(extensions)s))
  ORDER BY o.name
  OFFSET %(offset)s LIMIT %(limit)s
)
SELECT o.*
FROM page p
JOIN storage_object o ON o.space_id = %(space_id)s AND o.name = p.name
ORDER BY o.name
