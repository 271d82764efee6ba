-- List routers by name from behind `after`, within any of the ranges [low, high) of names, which don't overlap. source,
-- dest: only those; prefixes: only between topics that begin with one of them; each null = any. Called by
-- routers.queries; index router_once_per_name, once per range.
SELECT l.*
FROM unnest(%(lows)s::text[], %(highs)s::text[]) AS n (low, high)
CROSS JOIN LATERAL (
  SELECT r.name, s.name AS source, d.name AS dest, r.guarantee, r.forwarded_total
  FROM topics_router r
  JOIN topics_topic s ON s.id = r.source_id
  JOIN topics_topic d ON d.id = r.dest_id
  WHERE r.name > %(after)s::text AND r.name >= n.low AND r.name < n.high
    AND (%(source)s::text IS NULL OR s.name = %(source)s::text)
    AND (%(dest)s::text IS NULL OR d.name = %(dest)s::text)
    AND (%(prefixes)s::text[] IS NULL
         OR EXISTS (SELECT FROM unnest(%(prefixes)s::text[]) AS p (text) WHERE starts_with(s.name, p.text))
            AND EXISTS (SELECT FROM unnest(%(prefixes)s::text[]) AS p (text) WHERE starts_with(d.name, p.text)))
  ORDER BY r.name
  LIMIT %(limit)s::int
) AS l
ORDER BY l.name
LIMIT %(limit)s::int
