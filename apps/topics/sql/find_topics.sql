-- Look at topics before they are watched. Called by watch.sessions; index topic_once_per_name.
SELECT name, id, head, earliest,
       (ttl_ms > 0 AND coalesce(earliest_ts < %(now)s::bigint - ttl_ms, false)) OR NOT EXISTS (SELECT FROM topics_intact)
         -- Copies of what was written to the source of a router are still to come (§16.4).
         OR (is_fed AND topics_is_owed(id)) AS unsettled
FROM topics_topic
WHERE name = ANY (%(names)s::text[])
