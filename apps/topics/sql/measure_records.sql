-- Count the next `window` records of a topic up to `last`, and their bytes. Called by removal; index topics_event_pkey.
SELECT count(*) AS records, coalesce(sum(size), 0)::bigint AS bytes, max(seq) AS measured_to
FROM (
  SELECT seq, size FROM topics_event
  WHERE topic_id = %(topic_id)s::bigint AND seq > %(after)s::bigint AND seq <= %(last)s::bigint
  ORDER BY seq
  LIMIT %(window)s::int
) AS measured
