-- Say whether the log can be written, and how many topics there are. Called by vitals.readiness.
SELECT count(*) AS topics, pg_is_in_recovery() AS recovering, EXISTS (SELECT FROM topics_intact) AS intact
FROM topics_topic
