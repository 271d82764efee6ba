-- Count what list_objects would list, page by page.
-- Called by listing.page, unless the sums that are kept say it. Index: object_once_per_name, alone.
SELECT count(*) AS total
FROM storage_object o
WHERE o.space_id = %(space_id)s
  AND o.name >= %(low)s AND o.name < %(high)s
  AND (%(stage)s::text IS NULL OR starts_with(o.stage || '/', %(stage)s))
  AND (%(extensions)s::text[] IS NULL OR o.extension = ANY (%(extensions)s))
