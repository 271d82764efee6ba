-- Which of these names have no topic. Called by services.ensure_topics and admission; index topic_once_per_name.
SELECT n.name FROM unnest(%(names)s::text[]) AS n (name)
WHERE NOT EXISTS (SELECT FROM topics_topic t WHERE t.name = n.name)
