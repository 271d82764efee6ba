-- Count the runs that have not ended, and those among them that are not due yet; `most` of a state at most: a count reads
-- what it counts. Called by metrics.series and pages.under_way. Indexes: run_by_state, run_due.
SELECT s.state, (
         SELECT count(*)
         FROM (SELECT FROM runs_run r WHERE r.state = s.state LIMIT %(most)s::int) AS counted
       ) AS runs
FROM (VALUES ('PENDING'), ('ASSIGNED'), ('RUNNING')) AS s (state)
UNION ALL
SELECT 'delayed', count(*)
FROM (
  SELECT FROM runs_run r
  WHERE r.state = 'PENDING' AND r.scheduled_at > %(now)s::timestamptz
  LIMIT %(most)s::int
) AS counted
