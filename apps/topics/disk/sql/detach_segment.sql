-- Take a dead segment out of the log without making anybody wait: this waits for them. Called by disk.segments, outside
-- a transaction. If it is interrupted the segment is out already, and `finish_detaching` does the rest.
ALTER TABLE topics_event DETACH PARTITION {segment} CONCURRENTLY
