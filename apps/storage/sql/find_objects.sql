-- Find what is to be known of objects that are to be replaced, by the names they have in their spaces: the n-th name in the n-th space.
-- Called by ledger.attach, under the locks of the spaces. Index: object_once_per_name.
SELECT o.id, o.space_id, o.name, o.stage, o.content_length, o.blob, o.created_at
FROM unnest(%(space_ids)s::uuid[], %(names)s::text[]) AS w (space_id, name)
JOIN storage_object o ON o.space_id = w.space_id AND o.name = w.name
