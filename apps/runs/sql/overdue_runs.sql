-- Runs held by pull workers that must end without their word: past timeout_s, or a cancel that was not obeyed.
-- Workers of ours enforce both themselves. Called by sweeps.end_overdue_runs; index run_held.
SELECT r.id, r.cancel_requested_at IS NOT NULL
              AND r.cancel_requested_at < %(cancel_before)s AS is_cancel
FROM runs_run r
JOIN runs_worker w ON w.id = r.worker_id
WHERE r.state IN ('ASSIGNED', 'RUNNING')
  AND w.kind = 'pull'
  AND (r.cancel_requested_at < %(cancel_before)s
       OR r.started_at + make_interval(secs => r.timeout_s) < %(timeout_before)s)
ORDER BY r.id
LIMIT 1000
