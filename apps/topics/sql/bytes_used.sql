-- Return how many bytes all topics hold. Called by quota.take_turn under `lock_quota`, as a statement of its own,
-- because a snapshot taken before the lock would miss what its last holder did. Reads every topic.
SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM topics_topic
