-- Change the objects of locked spaces: write some, new or in the place of others; remove some; list the blobs that have no
-- object then; keep the sums of spaces and stages, and of all; take as many ticks of the event clock. Returns the blobs that were
-- written or removed, and the last tick. A blob that isn't listed any more has been taken by a sweep: it isn't written.
--
-- The clock's row stays locked until commit, so ids rise in the order of commits, in whatever process they are made; a clock
-- that was set back, or that runs behind that of another machine, stands still until it is overtaken.
--
-- wanted: a JSON array of objects with the columns of storage_object, and `replaced`, `old_stage` and `old_length` of the
-- one whose place it takes; no two with one id. removed: ids.
-- Called by ledger. Indexes: the primary keys of the tables.
WITH wanted AS MATERIALIZED (
  SELECT * FROM json_to_recordset(%(wanted)s::json) AS w (
    id uuid, space_id uuid, name text, stage text, folder text, extension text, content_type text, content_length bigint,
    sha256 text, blob text, run_id uuid, metadata jsonb, created_at timestamptz, modified_at timestamptz,
    replaced text, old_stage text, old_length bigint
  )
), taken AS (
  DELETE FROM storage_leftover l WHERE l.blob = ANY (ARRAY(SELECT w.blob FROM wanted w)) RETURNING l.blob
), written AS MATERIALIZED (
  SELECT w.* FROM wanted w JOIN taken t ON t.blob = w.blob
), removed AS (
  DELETE FROM storage_object o WHERE o.id = ANY (%(removed)s::uuid[]) RETURNING o.space_id, o.stage, o.content_length, o.blob
), listed AS (
  INSERT INTO storage_leftover (blob, due_at)
  SELECT w.replaced, %(now)s::timestamptz FROM written w WHERE w.replaced IS NOT NULL
  UNION ALL
  SELECT r.blob, %(now)s::timestamptz FROM removed r
), stored AS (
  INSERT INTO storage_object (id, space_id, name, stage, folder, extension, content_type, content_length, sha256, blob,
                              run_id, metadata, created_at, modified_at)
  SELECT w.id, w.space_id, w.name, w.stage, w.folder, w.extension, w.content_type, w.content_length, w.sha256, w.blob,
         w.run_id, w.metadata, w.created_at, w.modified_at
  FROM written w
  ON CONFLICT (id) DO UPDATE
  SET stage = excluded.stage, folder = excluded.folder, extension = excluded.extension,
      content_type = excluded.content_type, content_length = excluded.content_length, sha256 = excluded.sha256,
      blob = excluded.blob, run_id = excluded.run_id, metadata = excluded.metadata, modified_at = excluded.modified_at
), changes (space_id, stage, objects, size) AS MATERIALIZED (
  SELECT space_id, stage, 1, content_length FROM written
  UNION ALL SELECT space_id, old_stage, -1, -old_length FROM written WHERE replaced IS NOT NULL
  UNION ALL SELECT space_id, stage, -1, -content_length FROM removed
), spaces AS (
  UPDATE storage_space s
  SET count = s.count + c.objects, bytes = s.bytes + c.size
  FROM (SELECT space_id, sum(objects) AS objects, sum(size) AS size FROM changes GROUP BY space_id) AS c
  WHERE s.execution_id = c.space_id
), stages AS (
  INSERT INTO storage_stagetotal AS s (space_id, stage, count, bytes)
  SELECT space_id, stage, sum(objects), sum(size) FROM changes GROUP BY space_id, stage
  ON CONFLICT (space_id, stage) DO UPDATE
  SET count = s.count + excluded.count, bytes = s.bytes + excluded.bytes
), told AS (
  SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) AS ticks, sum(objects) AS objects, sum(size) AS size
  FROM changes
), clock AS (
  INSERT INTO storage_eventclock AS c (id, tick, count, bytes)
  SELECT 1, %(now_ms)s::bigint * 4096 - 1 + t.ticks, t.objects, t.size FROM told t WHERE t.ticks > 0
  ON CONFLICT (id) DO UPDATE
  SET tick = greatest(c.tick, %(now_ms)s::bigint * 4096 - 1) + (SELECT t.ticks FROM told t),
      count = c.count + excluded.count, bytes = c.bytes + excluded.bytes
  RETURNING tick
)
SELECT found.blob, clock.tick
FROM (SELECT blob FROM written UNION ALL SELECT blob FROM removed) AS found, clock
