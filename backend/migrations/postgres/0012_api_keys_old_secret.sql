-- While the secret of a key is replaced, the one before holds on until a second.

ALTER TABLE api_keys ADD COLUMN old_secret_hash TEXT;
ALTER TABLE api_keys ADD COLUMN old_secret_until BIGINT;
