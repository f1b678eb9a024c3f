-- Batches of queries. A job is one batch; its items are the unit of work. All times are whole seconds of the Unix epoch.

CREATE TABLE jobs (
    id              TEXT    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by creation
    owner           TEXT    NOT NULL,             -- the subject of whoever asked
    priority        INTEGER NOT NULL,             -- higher ones are taken first
    idempotency_key TEXT,
    body_hash       BLOB    NOT NULL,             -- SHA-256 of what was asked
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,                      -- when an item was first taken
    cancelled_at    INTEGER,                      -- no item is begun after this
    finished_at     INTEGER,                      -- when the last item ended
    total           INTEGER NOT NULL,
    done            INTEGER NOT NULL DEFAULT 0,
    dead            INTEGER NOT NULL DEFAULT 0,
    cancelled       INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, idempotency_key)
) STRICT;

CREATE INDEX jobs_owner ON jobs (owner, id);
CREATE INDEX jobs_finished ON jobs (finished_at);

CREATE TABLE job_items (
    id          TEXT    NOT NULL PRIMARY KEY,
    job_id      TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,             -- in the batch, from 0
    status      TEXT    NOT NULL,             -- queued, running, done, dead or cancelled
    priority    INTEGER NOT NULL,             -- its job's
    attempts    INTEGER NOT NULL DEFAULT 0,   -- counted when it is taken
    run_after   INTEGER NOT NULL,
    worker      TEXT,                         -- who has it
    lease_until INTEGER,                      -- afterwards others may take it
    started_at  INTEGER,
    finished_at INTEGER,
    request     TEXT    NOT NULL,             -- JSON
    result      TEXT,                         -- JSON
    error       TEXT,                         -- of the last attempt that failed
    UNIQUE (job_id, position)
) STRICT;

CREATE INDEX job_items_ready ON job_items (status, priority DESC, run_after, id);
CREATE INDEX job_items_lease ON job_items (status, lease_until);
