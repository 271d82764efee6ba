-- Delete what is left of the queues of deleted topics, as long as these are remembered. Called by leftovers; index
-- topics_job_pkey.
WITH deleted AS MATERIALIZED (
  SELECT id FROM topics_deletedtopic
), jobs AS (
  DELETE FROM topics_job j USING deleted d WHERE j.topic_id = d.id
), marks AS (
  DELETE FROM topics_queue_intact i USING deleted d WHERE i.topic_id = d.id
), waiting AS (
  DELETE FROM topics_waitingclaim w USING deleted d WHERE w.topic_id = d.id
)
DELETE FROM topics_queue q USING deleted d WHERE q.topic_id = d.id
