-- Read what has been added to a run's timeline after (attempt, number), oldest first, across attempts, beside the state
-- the run had at that very moment: one snapshot, so "final, and nothing more to send" can't miss an event. A run
-- without news gives one row whose event is NULL; no row = no such run. Called by runs.streams. Index:
-- runs_runevent_pkey (run_id, attempt, number).
SELECT run.state AS run_state,
       event.attempt,
       event.number,
       event.at,
       event.type,
       event.msg,
       event.state,
       event.payload
  FROM runs_run AS run
  LEFT JOIN LATERAL (
         SELECT *
           FROM runs_runevent
          WHERE run_id = run.id
            AND (attempt, number) > (%(attempt)s::int, %(number)s::int)
          ORDER BY attempt, number
          LIMIT %(limit)s::int
       ) AS event ON true
 WHERE run.id = %(run_id)s
 ORDER BY event.attempt, event.number
