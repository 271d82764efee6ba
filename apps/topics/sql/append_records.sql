-- Append records to topics that exist, any number over any number of them: lock the topics' rows in name order, take
-- the next seqs, insert. The row locks last until commit, so commit order is seq order. Returns one row per topic
-- that was found; a name without a row has nothing appended.
-- Called by services.append_events, as the last step of the caller's transaction, and by the group commit of the web
-- process, as a transaction of its own. Indexes: topic_once_per_name, topics_topic_pkey; it writes the key of
-- the newest segment.
--
-- names, counts, sizes, largests: per topic, how many records and bytes, and its largest record. The rest: per record, in
-- the order of names and within it in the order in which they shall be stored. places: its topic, 1 = the first of names.
-- totals: the bytes of all records up to it. An array in which every element would be the default (place 1, kind 0,
-- null) is left empty: what is not sent, parsed and unnested is a fifth of the cost.
-- roomy_only: pass over topics with a cap, whose writes must be judged first.
-- relaxed: commit without waiting for the disk if every topic here allows it (Appendix B.12).
WITH wanted AS MATERIALIZED (
  SELECT w.place, w.name, w.records, w.size, w.largest
  FROM unnest(%(names)s::text[], %(counts)s::int[], %(sizes)s::bigint[], %(largests)s::int[]) WITH ORDINALITY
    AS w (name, records, size, largest, place)
), locked AS MATERIALIZED (
  -- The lock is taken above the sort. Two batches that share topics meet at the first of them and never deadlock.
  SELECT t.id, t.name
  FROM topics_topic t
  WHERE t.name = ANY (%(names)s::text[])
    AND NOT (%(roomy_only)s AND (t.cap_records > 0 OR t.cap_bytes > 0))
    -- After a crash of Postgres nothing is appended until seqs that may have been handed out are skipped.
    AND EXISTS (SELECT FROM topics_intact)
  ORDER BY t.name
  FOR NO KEY UPDATE OF t
), moved AS (
  UPDATE topics_topic t
  SET head = t.head + w.records,
      count = t.count + w.records,
      bytes = t.bytes + w.size,
      written = t.written + w.size,
      largest = greatest(t.largest, w.largest),
      last_write_ts = greatest(%(now)s::bigint, t.last_write_ts),
      earliest_ts = CASE WHEN t.count = 0 THEN greatest(%(now)s::bigint, t.last_write_ts) ELSE t.earliest_ts END,
      reserved = CASE
        WHEN %(relaxed)s AND t.durability <> 'fsync' AND t.head + w.records > t.reserved
          THEN t.head + w.records + 256
        ELSE t.reserved
      END
  FROM locked l
  JOIN wanted w ON w.name = l.name
  WHERE t.id = l.id
  RETURNING w.place, t.id, t.name, w.records, w.size, t.head, t.written, t.last_write_ts, t.has_listeners,
            t.cap_records > 0 OR t.cap_bytes > 0 AS has_cap, t.durability = 'fsync' AS durable,
            -- head only rises, so it is 256 below the ceiling only when this statement raised the ceiling.
            t.reserved = t.head + 256 AS raised
), bases AS (
  -- Arrays indexed by place, because looking up an element costs nothing and can't be planned badly. To `bases` the
  -- number of a record among all those sent is added, to `totals` the bytes up to it.
  SELECT array_agg(m.id ORDER BY w.place) AS ids,
         array_agg(m.head - m.records - w.records_before ORDER BY w.place) AS bases,
         array_agg(m.written - m.size - w.bytes_before ORDER BY w.place) AS totals,
         array_agg(m.last_write_ts ORDER BY w.place) AS times
  FROM (
    SELECT place, sum(records) OVER w - records AS records_before, (sum(size) OVER w)::bigint - size AS bytes_before
    FROM wanted
    WINDOW w AS (ORDER BY place)
  ) AS w
  LEFT JOIN moved m ON m.place = w.place
), inserted AS (
  INSERT INTO topics_event (topic_id, seq, ts, total, size, kind, trail, tag, node, data, meta)
  SELECT b.ids[r.place], b.bases[r.place] + r.number, b.times[r.place], b.totals[r.place] + r.total,
         r.size, r.kind, r.trail, r.tag, r.node, r.data, r.meta
  FROM bases b,
       LATERAL (
         SELECT coalesce(u.place, 1) AS place, u.number, u.total,
                u.total - coalesce((%(totals)s::bigint[])[u.number - 1], 0) AS size,
                coalesce(u.kind, 0::smallint) AS kind, u.trail, u.tag, u.node, u.data, u.meta
         FROM unnest(%(totals)s::bigint[], %(datas)s::text[], %(places)s::int[], %(kinds)s::smallint[],
                     %(trails)s::text[], %(tags)s::text[], %(nodes)s::text[], %(metas)s::text[]) WITH ORDINALITY
           AS u (total, data, place, kind, trail, tag, node, meta, number)
       ) AS r
  WHERE b.ids[r.place] IS NOT NULL
)
SELECT m.place, m.id, m.name, m.head - m.records + 1 AS first_seq, m.head, m.last_write_ts AS ts, m.has_listeners,
       m.has_cap, m.durable,
       -- Read when the transaction commits, and forgotten with it.
       CASE WHEN %(relaxed)s AND NOT bool_or(m.durable OR m.raised) OVER ()
         THEN set_config('synchronous_commit', 'off', true) END AS commits
FROM moved m
