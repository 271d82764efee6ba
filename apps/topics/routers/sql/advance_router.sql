-- Move a router past the source records that this transaction deals with. Called by routers.forwarding, which holds the
-- router's row since read_source; primary key of topics_router.
UPDATE topics_router
SET position = %(position)s::bigint, forwarded_total = %(forwarded_total)s::bigint
WHERE id = %(router_id)s::bigint
