-- Write down where sessions stand whose streams this process serves, that they are in use, and which streams have ended.
-- Returns those that are still the process's own. Called by watch.sessions; primary key of topics_watchsession. Locks in
-- wid order.
WITH told AS (
  SELECT * FROM unnest(%(wids)s::text[], %(epochs)s::int[], %(positions)s::text[], %(ended)s::int[])
    AS t (wid, epoch, positions, ended)
), locked AS MATERIALIZED (
  SELECT w.wid FROM topics_watchsession w JOIN told t ON t.wid = w.wid AND t.epoch = w.epoch
  ORDER BY w.wid
  FOR UPDATE OF w
)
UPDATE topics_watchsession w
SET positions = coalesce(t.positions::jsonb, w.positions),
    streams = greatest(w.streams - t.ended, 0),
    expires_ts = greatest(w.expires_ts, %(expires_ts)s::bigint)
FROM told t, locked l
WHERE w.wid = t.wid AND l.wid = w.wid
RETURNING w.wid, set_config('synchronous_commit', 'off', true) AS commits
