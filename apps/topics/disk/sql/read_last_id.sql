-- Return the newest id that was drawn for a record, be it committed or not. Called by disk.segments.
SELECT last_value AS id FROM topics_event_id_seq
