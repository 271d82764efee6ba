-- Forget remains that are deleted: note in the topic how far the disk is clean, and forget a deleted topic of which
-- nothing is left. Called by disk.remains; primary keys.
WITH clean AS (
  UPDATE topics_topic SET swept = greatest(swept, %(below)s::bigint) WHERE id = %(topic_id)s::bigint
), forgotten AS (
  DELETE FROM topics_deletedtopic WHERE id = %(topic_id)s::bigint AND head < %(below)s::bigint
)
DELETE FROM topics_remains WHERE topic_id = %(topic_id)s::bigint
