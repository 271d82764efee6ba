-- Count what list_in_folder would list, page by page.
-- Called by listing.page. Index: object_by_folder, alone unless there is something to filter by.
SELECT count(*) AS total
FROM storage_object o
WHERE o.space_id = %(space_id)s
  AND o.folder = %(folder)s AND o.name >= %(low)s AND o.name < %(high)s
  AND (%(stage)s::text IS NULL OR starts_with(o.stage || '/', %(stage)s))
  AND (%(extensions)s::text[] IS NULL OR o.extension = ANY (%(extensions)s))
