-- Take back topics that this transaction has created for writes which were then refused (★22). Called by admission.
DELETE FROM topics_topic WHERE id = ANY (%(ids)s::bigint[])
