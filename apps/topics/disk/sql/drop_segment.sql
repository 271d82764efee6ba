-- Remove a segment that is no part of the log any more. Called by disk.segments.
DROP TABLE {segment}
