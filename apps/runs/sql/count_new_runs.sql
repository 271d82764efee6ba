-- Count the runs with ids from `since` on, by state; `most` of a state at most. Ids rise with time. Called by pages.lately;
-- index run_by_state.
SELECT s.state, (
         SELECT count(*)
         FROM (
           SELECT FROM runs_run r WHERE r.state = s.state AND r.id >= %(since)s::uuid LIMIT %(most)s::int
         ) AS counted
       ) AS runs
FROM unnest(%(states)s::text[]) AS s (state)
