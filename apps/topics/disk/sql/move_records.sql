-- Give the next `batch` live records that a topic has between two ids another id, in an older segment, in a transaction
-- that holds the topic's lock: whoever deletes records does, too, and would fail at one that moves meanwhile. Called by
-- disk.remnants; indexes: the keys of the segments. Order stays: what the topic has in the older segment is older.
UPDATE topics_event
SET id = %(to)s
WHERE topic_id = %(topic_id)s AND id >= %(low)s AND id < %(high)s
  AND seq IN (
    SELECT seq FROM topics_event
    WHERE topic_id = %(topic_id)s AND id >= %(low)s AND id < %(high)s AND seq >= %(earliest)s
    ORDER BY seq
    LIMIT %(batch)s
  )
