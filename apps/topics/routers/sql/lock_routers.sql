-- Wait for the turn to change which routers there are: fan-in, cycles and their number are judged over all of them. Called
-- by routers.topology, before any router's or topic's row is locked.
SELECT pg_advisory_xact_lock(hashtext('topics routers'))
