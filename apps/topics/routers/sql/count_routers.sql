-- Count the routers. Called by routers.queries.
SELECT count(*) AS routers FROM topics_router
