-- Count the workers that are there, by what they do with new work. Called by metrics.series. Index: worker_alive.
SELECT state, count(*) AS workers FROM runs_worker WHERE state <> 'LOST' GROUP BY state
