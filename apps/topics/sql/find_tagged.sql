-- Look at the next `window` records of a topic up to `last` and return those whose tag is `tag` or begins with `prefix`
-- (one of the two is null). Takes no lock. Called by removal; index topics_event_pkey.
WITH scanned AS MATERIALIZED (
  SELECT seq, tag FROM topics_event
  WHERE topic_id = %(topic_id)s::bigint AND seq > %(after)s::bigint AND seq <= %(last)s::bigint
  ORDER BY seq
  LIMIT %(window)s::int
)
SELECT count(*) AS scanned, max(seq) AS scanned_to,
       array_agg(seq ORDER BY seq) FILTER (WHERE tag = %(tag)s::text OR starts_with(tag, %(prefix)s::text)) AS seqs
FROM scanned
