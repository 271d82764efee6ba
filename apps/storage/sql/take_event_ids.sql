-- Take the next `wanted` ticks of the event clock and return the last of them. The row stays locked until commit, so ids
-- rise in the order of commits, in whatever process they are made; a clock that was set back, or that runs behind that of
-- another machine, stands still until it is overtaken.
-- Called by events.append. Index: storage_eventclock_pkey.
INSERT INTO storage_eventclock AS c (id, tick)
VALUES (1, %(now_ms)s::bigint * 4096 - 1 + %(wanted)s::int)
ON CONFLICT (id) DO UPDATE
SET tick = greatest(c.tick, %(now_ms)s::bigint * 4096 - 1) + %(wanted)s::int
RETURNING tick
