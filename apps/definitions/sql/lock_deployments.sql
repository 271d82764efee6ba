-- Let one deployment at a time take its number, until its transaction ends: numbers rise in commit order, so "the
-- version most recently deployed" has one answer. Called by definitions.services.deploy_definition. The key is
-- arbitrary and used nowhere else.
SELECT pg_advisory_xact_lock(7105462131170226275) IS NULL AS locked
