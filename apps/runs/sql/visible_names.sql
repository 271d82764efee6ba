-- The names under which a key that is limited to prefixes sees runs: ops, topics of runs without an op, and its own; each
-- with one of its runs. From each name the index is entered anew for the next one, so the cost is that of the names,
-- however many runs they have. Called by names.visible_names. Indexes: run_by_op, run_by_ad_hoc_topic, run_by_owner;
-- bytewise order (collation C) is what keeps the names of a prefix together.
WITH RECURSIVE prefixes AS (
  SELECT prefix FROM unnest(%(prefixes)s::text[]) AS p (prefix)
), ops AS (
  SELECT p.prefix, first.name, first.id
  FROM prefixes p
  CROSS JOIN LATERAL (
    SELECT op_definition AS name, id FROM runs_run
    WHERE op_definition >= p.prefix ORDER BY op_definition, id DESC LIMIT 1) AS first
  UNION ALL
  SELECT o.prefix, next.name, next.id
  FROM ops o
  CROSS JOIN LATERAL (
    SELECT op_definition AS name, id FROM runs_run
    WHERE op_definition > o.name ORDER BY op_definition, id DESC LIMIT 1) AS next
  WHERE starts_with(o.name, o.prefix)
), topics AS (
  SELECT p.prefix, first.name, first.id
  FROM prefixes p
  CROSS JOIN LATERAL (
    SELECT topic AS name, id FROM runs_run
    WHERE op_definition IS NULL AND topic <> '' AND topic >= p.prefix ORDER BY topic, id DESC LIMIT 1) AS first
  UNION ALL
  SELECT t.prefix, next.name, next.id
  FROM topics t
  CROSS JOIN LATERAL (
    SELECT topic AS name, id FROM runs_run
    WHERE op_definition IS NULL AND topic <> '' AND topic > t.name ORDER BY topic, id DESC LIMIT 1) AS next
  WHERE starts_with(t.name, t.prefix)
)
(SELECT 'op' AS kind, id FROM ops WHERE starts_with(name, prefix) LIMIT %(most)s::int)
UNION ALL
(SELECT 'ad hoc', id FROM topics WHERE starts_with(name, prefix) LIMIT %(most)s::int)
UNION ALL
(SELECT 'owner', id FROM runs_run
 WHERE created_by = %(owner)s::text AND created_by <> 'anonymous' ORDER BY id DESC LIMIT 1)
