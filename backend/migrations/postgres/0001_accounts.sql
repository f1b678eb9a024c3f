-- Accounts, refresh tokens, API keys and security events. All times are whole seconds of the Unix epoch.
-- Ids and names are compared byte by byte (COLLATE "C"), as SQLite does, whatever the database's language.

CREATE TABLE users (
    id            TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- UUIDv7: sorts by creation
    name          TEXT   COLLATE "C" NOT NULL UNIQUE,      -- lower case
    password_hash TEXT   NOT NULL,                         -- argon2id in PHC form
    role          TEXT   NOT NULL,
    created_at    BIGINT NOT NULL
);

-- A login and every token refreshed from it.
CREATE TABLE refresh_families (
    id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    TEXT   COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX refresh_families_user ON refresh_families (user_id);

CREATE TABLE refresh_tokens (
    token_hash BYTEA  NOT NULL PRIMARY KEY, -- SHA-256 of the token
    family_id  TEXT   COLLATE "C" NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT                       -- a used token is kept until it expires, so that its reuse is noticed
);

CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at);

CREATE TABLE api_keys (
    id           TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- the public part of the key
    user_id      TEXT   COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT   NOT NULL,
    secret_hash  TEXT   NOT NULL,                         -- SHA-256 in hexadecimal
    permissions  TEXT   NOT NULL,                         -- separated by spaces
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT
);

CREATE INDEX api_keys_user ON api_keys (user_id, created_at, id);

CREATE TABLE audit_events (
    id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    at         BIGINT NOT NULL,
    kind       TEXT   NOT NULL,
    subject    TEXT,                                      -- whom it is about: a user's id, or the name that was tried
    client     TEXT,                                      -- the client's address
    request_id TEXT,
    detail     TEXT
);

CREATE INDEX audit_events_at ON audit_events (at);
