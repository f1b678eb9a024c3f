-- Requests that were sent with an idempotency key and done, for a day.

CREATE TABLE idempotent_requests (
    subject     TEXT    NOT NULL, -- whose key it is
    route       TEXT    NOT NULL, -- what was asked
    key         TEXT    NOT NULL,
    body_hash   BLOB    NOT NULL, -- SHA-256 of what the request held, its secrets left out
    secret_hash TEXT,             -- argon2id of its password, if it held one
    answer      TEXT    NOT NULL, -- JSON; nothing secret is in it
    at          INTEGER NOT NULL,
    PRIMARY KEY (subject, route, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotent_requests_at ON idempotent_requests (at);
