-- Take the segment that has no upper bound out of the log, in a transaction that gives it back with one. Called by
-- disk.segments; locks the log for everybody.
ALTER TABLE topics_event DETACH PARTITION {segment}
