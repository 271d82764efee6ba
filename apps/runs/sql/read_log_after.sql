-- Read an attempt's log from a byte offset on, piece by piece, beside whether the attempt has ended at that very moment
-- (one snapshot, as in read_timeline_after). The piece that holds the offset is cut by the caller. A log without news
-- gives one row whose start is NULL; no row = no such run. Called by queries.read_log_after. Index: runs_logchunk_pkey
-- (run_id, attempt, start), walked upwards from the piece before the offset.
-- pieces, size: it gives so many pieces, and none that begins more than so many bytes behind the first; `found` = how many
-- there were before the second limit.
SELECT run.state AS run_state,
       run.current_attempt,
       chunk.start,
       chunk.content,
       chunk.found
  FROM runs_run AS run
  LEFT JOIN LATERAL (
         SELECT start, content, count(*) OVER () AS found, min(start) OVER () AS first
           FROM (SELECT start, content
                   FROM runs_logchunk
                  WHERE run_id = run.id
                    AND attempt = %(attempt)s::int
                    AND start >= coalesce(
                          (SELECT max(start)
                             FROM runs_logchunk
                            WHERE run_id = run.id AND attempt = %(attempt)s::int AND start <= %(after)s::bigint),
                          0)
                    AND start + length(content) > %(after)s::bigint
                  ORDER BY start
                  LIMIT %(pieces)s::int) AS piece
       ) AS chunk ON chunk.start <= chunk.first + %(size)s::int
 WHERE run.id = %(run_id)s
 ORDER BY chunk.start
