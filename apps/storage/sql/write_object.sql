-- Make a blob an object, new or in the place of another, and list the blob that it replaces as one that no object has.
-- Returns nothing if the blob isn't listed any more: a sweep has taken it, and then nothing is written.
-- Called by services.attach, under the lock of the space. Indexes: storage_leftover_pkey, storage_object_pkey.
WITH taken AS (
  DELETE FROM storage_leftover WHERE blob = %(blob)s RETURNING blob
), replaced AS (
  INSERT INTO storage_leftover (blob, due_at)
  SELECT %(replaced)s::text, %(modified_at)s::timestamptz
  FROM taken
  WHERE %(replaced)s::text IS NOT NULL
)
INSERT INTO storage_object (id, space_id, name, stage, folder, extension, content_type, content_length, sha256, blob,
                            run_id, metadata, created_at, modified_at)
SELECT %(id)s::uuid, %(space_id)s::uuid, %(name)s::text, %(stage)s::text, %(folder)s::text, %(extension)s::text,
       %(content_type)s::text, %(content_length)s::bigint, %(sha256)s::text, t.blob, %(run_id)s::uuid, %(metadata)s::jsonb,
       %(created_at)s::timestamptz, %(modified_at)s::timestamptz
FROM taken t
ON CONFLICT (id) DO UPDATE
SET stage = excluded.stage, folder = excluded.folder, extension = excluded.extension,
    content_type = excluded.content_type, content_length = excluded.content_length, sha256 = excluded.sha256,
    blob = excluded.blob, run_id = excluded.run_id, metadata = excluded.metadata, modified_at = excluded.modified_at
RETURNING id
