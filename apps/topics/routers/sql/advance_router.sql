-- Move a router past the source records that this transaction deals with; lost_hops is null unless it has told of a loss.
-- Called by routers.forwarding, which holds the router's row since read_source; primary key of topics_router.
UPDATE topics_router
SET position = %(position)s::bigint, forwarded_total = %(forwarded_total)s::bigint,
    lost_hops = coalesce(%(lost_hops)s::int, lost_hops)
WHERE id = %(router_id)s::bigint
