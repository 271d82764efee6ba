-- Say what a trigger's turn begins from: how many of its executions are under way, whether any of its pipeline wait for their
-- turn, and where its topic stands (null: there is none). Called by queries.read_room under the trigger's lock, after it: who had it before has committed what he started.
-- Indexes: execution_under_way, topic_once_per_name.
SELECT t.id AS topic_id, t.head, t.largest,
       (SELECT count(*) FROM pipelines_execution e
        WHERE e.pipeline_id = %(pipeline_id)s AND e.source_id = %(pipeline_id)s AND e.status = 'running') AS under_way,
       EXISTS (SELECT FROM pipelines_execution e
               WHERE e.pipeline_id = %(pipeline_id)s AND e.status = 'running' AND e.is_queued) AS has_queued
FROM (SELECT) AS always LEFT JOIN topics_topic t ON t.name = %(topic)s
