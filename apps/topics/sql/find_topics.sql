-- Look at topics before they are watched. Called by watch.sessions; index topic_once_per_name.
SELECT name, id, head, earliest,
       (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
         AS unsettled
FROM topics_topic
WHERE name = ANY (%(names)s::text[])
