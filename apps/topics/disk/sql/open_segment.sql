-- Add the segment of all ids from `low` on. Called by disk.segments. Vacuumed for the visibility map by number of
-- records, not by a fifth of a huge table.
CREATE TABLE {segment} PARTITION OF topics_event (PRIMARY KEY (topic_id, seq))
FOR VALUES FROM ({low}) TO (MAXVALUE)
WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0,
      autovacuum_vacuum_insert_threshold = 1000000, autovacuum_analyze_scale_factor = 0.02)
