-- Count the executions with ids from `since` on, by status; `most` of a status at most. Ids rise with time. Called by
-- pages.lately; index execution_by_status.
SELECT s.status, (
         SELECT count(*)
         FROM (
           SELECT FROM pipelines_execution e
           WHERE e.status = s.status AND e.id >= %(since)s::uuid LIMIT %(most)s::int
         ) AS counted
       ) AS executions
FROM unnest(%(statuses)s::text[]) AS s (status)
