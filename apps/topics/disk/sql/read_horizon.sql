-- Return the id below which every record has been written or never will be: whoever was writing when the horizon was
-- moved here has ended. No row while somebody has not. Called by disk.segments; topics_horizon has one row.
SELECT id FROM topics_horizon WHERE pg_snapshot_xmin(pg_current_snapshot()) >= ends_before
