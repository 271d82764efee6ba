-- Count the executions that have not ended, and how many of them wait for their turn; `most` of a status at most: a count
-- reads what it counts. Called by metrics.series and pages.under_way. Indexes: execution_under_way, execution_by_status.
SELECT 'running' AS status, count(*) AS executions, count(*) FILTER (WHERE counted.is_queued) AS queued
FROM (
  SELECT e.is_queued FROM pipelines_execution e WHERE e.status = 'running' LIMIT %(most)s::int
) AS counted
UNION ALL
SELECT 'interrupted', count(*), 0
FROM (
  SELECT FROM pipelines_execution e WHERE e.status = 'interrupted' LIMIT %(most)s::int
) AS counted
