-- Which pipelines have executions waiting for their turn. Called by sweeps; index execution_under_way.
SELECT DISTINCT pipeline_id FROM pipelines_execution WHERE status = 'running' AND is_queued
