-- Which triggers have something to look at: a topic that has grown past their cursor, that appeared, was made anew or has
-- gone without their saying so, or their own time has come. Called by dispatching; indexes trigger_listening, trigger_due, topic_once_per_name.
SELECT t.pipeline_id, t.topic, coalesce(t.position, 0) AS position
FROM pipelines_trigger t
LEFT JOIN topics_topic p ON p.name = t.topic
WHERE t.is_started AND NOT t.is_paused
  AND (t.wake_at <= %(now)s::timestamptz
       OR (t.wake_at IS NULL AND p.id IS NOT NULL AND (t.topic_id IS DISTINCT FROM p.id OR p.head > t.position))
       OR (p.id IS NULL AND t.conditions @> '{"TopicResolved": {"status": true}}'))
ORDER BY t.pipeline_id
