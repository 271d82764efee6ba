-- Sum up all topics. Called by vitals.metrics; reads every topic.
SELECT count(*) AS topics,
       count(*) FILTER (WHERE durability = 'ephemeral') AS ephemeral,
       count(*) FILTER (WHERE durability = 'memory') AS memory,
       count(*) FILTER (WHERE durability = 'disk') AS disk,
       count(*) FILTER (WHERE durability = 'fsync') AS fsync,
       count(*) FILTER (WHERE kind = 'queue') AS queues,
       coalesce(sum(count), 0)::bigint AS records, coalesce(sum(bytes), 0)::bigint AS bytes
FROM topics_topic
