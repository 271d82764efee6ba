-- List a page of a space by name: which names is found in the index alone, rows are read for the page only.
-- Called by listing.page. Index: object_once_per_name (names with stage and extension).
WITH page AS MATERIALIZED (
  SELECT o.name
  FROM storage_object o
  WHERE o.space_id = %(space_id)s
    AND o.name >= %(low)s AND o.name < %(high)s
    AND (%(stage)s::text IS NULL OR starts_with(o.stage || '/', %(stage)s))
    AND (%(extensions)s::text[] IS NULL OR o.extension = ANY (%(extensions)s))
  ORDER BY o.name
  OFFSET %(offset)s LIMIT %(limit)s
)
SELECT o.*
FROM page p
JOIN storage_object o ON o.space_id = %(space_id)s AND o.name = p.name
ORDER BY o.name
