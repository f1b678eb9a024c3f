-- Keys that have ended long ago, which are deleted.

CREATE INDEX IF NOT EXISTS api_keys_revoked ON api_keys (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS api_keys_expired ON api_keys (expires_at) WHERE expires_at IS NOT NULL;
