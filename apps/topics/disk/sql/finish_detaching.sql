-- End what an interrupted `detach_segment` has begun. Called by disk.segments.
ALTER TABLE topics_event DETACH PARTITION {segment} FINALIZE
