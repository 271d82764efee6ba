-- Lock a trigger that takes messages, with the document of the version that it starts; no row if it does not, or if another
-- dispatcher is at it. Called by queries.lock_listening; primary keys of pipelines_trigger and pipelines_version.
SELECT t.*, v.document
FROM pipelines_trigger t
LEFT JOIN pipelines_version v ON v.pipeline_id = t.pipeline_id AND v.number = t.version
WHERE t.pipeline_id = %(pipeline_id)s AND t.is_started AND NOT t.is_paused
FOR NO KEY UPDATE OF t SKIP LOCKED
