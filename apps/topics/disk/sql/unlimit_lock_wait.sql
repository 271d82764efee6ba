-- End `limit_lock_wait`. Called by disk.segments.
RESET lock_timeout
