-- Keep the sums of a locked space and of one of its stages, in one step.
-- Called by services. Indexes: storage_space_pkey, storage_stagetotal_pkey.
WITH kept AS (
  UPDATE storage_space
  SET count = count + %(objects)s::bigint, bytes = bytes + %(size)s::bigint
  WHERE execution_id = %(space_id)s
)
INSERT INTO storage_stagetotal AS s (space_id, stage, count, bytes)
VALUES (%(space_id)s, %(stage)s, %(objects)s::bigint, %(size)s::bigint)
ON CONFLICT (space_id, stage) DO UPDATE
SET count = s.count + excluded.count, bytes = s.bytes + excluded.bytes
