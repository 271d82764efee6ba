-- Take an Idempotency-Key for the present transaction; called by claim_idempotency().
-- Returns the row's id if the key is ours now: it was free, or its row is older than a day. Returns no row if it is taken.
-- Relies on access_idempotencyrecord_key_is_used_once: a second claim of the same key waits until the first transaction
-- ends, then sees the row it committed, or takes the key if it rolled back.
INSERT INTO access_idempotencyrecord AS taken (owner, key, fingerprint, created_at)
VALUES (%(owner)s, %(key)s, %(fingerprint)s, %(now)s)
ON CONFLICT (owner, key) DO UPDATE
SET fingerprint = excluded.fingerprint, created_at = excluded.created_at, status = NULL, body = NULL
WHERE taken.created_at < %(forgotten_before)s
RETURNING id
