-- Delete what is left of the queues of deleted topics, as long as these are remembered. Called by leftovers; index
-- topics_job_pkey.
WITH jobs AS (
  DELETE FROM topics_job WHERE topic_id = ANY (ARRAY (SELECT id FROM topics_deletedtopic))
), marks AS (
  DELETE FROM topics_queue_intact WHERE topic_id = ANY (ARRAY (SELECT id FROM topics_deletedtopic))
), waiting AS (
  DELETE FROM topics_waitingclaim WHERE topic_id = ANY (ARRAY (SELECT id FROM topics_deletedtopic))
)
DELETE FROM topics_queue WHERE topic_id = ANY (ARRAY (SELECT id FROM topics_deletedtopic))
