-- Requests that were sent with an idempotency key and done, for a day.

CREATE TABLE idempotent_requests (
    subject     TEXT   COLLATE "C" NOT NULL, -- whose key it is
    route       TEXT   COLLATE "C" NOT NULL, -- what was asked
    key         TEXT   COLLATE "C" NOT NULL,
    body_hash   BYTEA  NOT NULL,             -- SHA-256 of what the request held, its secrets left out
    secret_hash TEXT,                        -- argon2id of its password, if it held one
    answer      TEXT   NOT NULL,             -- JSON; nothing secret is in it
    at          BIGINT NOT NULL,
    PRIMARY KEY (subject, route, key)
);

CREATE INDEX idempotent_requests_at ON idempotent_requests (at);
