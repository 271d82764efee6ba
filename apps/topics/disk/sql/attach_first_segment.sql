-- Give the log its first segment back, with an upper bound. Called by disk.segments; reads the segment.
ALTER TABLE topics_event ATTACH PARTITION {segment} FOR VALUES FROM (MINVALUE) TO ({high})
