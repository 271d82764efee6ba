-- Note that a queue's lease numbers have been moved past those that a crash may have lost. Called by passes.
INSERT INTO topics_queue_intact (topic_id) VALUES (%(topic_id)s::bigint) ON CONFLICT (topic_id) DO NOTHING
