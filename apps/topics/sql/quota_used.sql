-- Return how much of what is limited over all topics is in use. Called by admission under `lock_quota`, as a statement
-- of its own, because a snapshot taken before the lock would miss what its last holder did. Reads every topic.
SELECT count(*) AS topics, coalesce(sum(bytes), 0)::bigint AS bytes FROM topics_topic
