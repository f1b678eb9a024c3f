-- Batches of queries. A job is one batch; its items are the unit of work. All times are whole seconds of the Unix epoch.

CREATE TABLE jobs (
    id              TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- UUIDv7: sorts by creation
    owner           TEXT   COLLATE "C" NOT NULL,             -- the subject of whoever asked
    priority        BIGINT NOT NULL,                         -- higher ones are taken first
    idempotency_key TEXT   COLLATE "C",
    body_hash       BYTEA  NOT NULL,                         -- SHA-256 of what was asked
    created_at      BIGINT NOT NULL,
    started_at      BIGINT,                                  -- when an item was first taken
    cancelled_at    BIGINT,                                  -- no item is begun after this
    finished_at     BIGINT,                                  -- when the last item ended
    total           BIGINT NOT NULL,
    done            BIGINT NOT NULL DEFAULT 0,
    dead            BIGINT NOT NULL DEFAULT 0,
    cancelled       BIGINT NOT NULL DEFAULT 0,
    attempts        BIGINT NOT NULL DEFAULT 0,
    UNIQUE (owner, idempotency_key)
);

CREATE INDEX jobs_owner ON jobs (owner, id);
CREATE INDEX jobs_finished ON jobs (finished_at);

CREATE TABLE job_items (
    id          TEXT   COLLATE "C" NOT NULL PRIMARY KEY,
    job_id      TEXT   COLLATE "C" NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,           -- in the batch, from 0
    status      TEXT   NOT NULL,           -- queued, running, done, dead or cancelled
    priority    BIGINT NOT NULL,           -- its job's
    attempts    BIGINT NOT NULL DEFAULT 0, -- counted when it is taken
    run_after   BIGINT NOT NULL,
    worker      TEXT,                      -- who has it
    lease_until BIGINT,                    -- afterwards others may take it
    started_at  BIGINT,
    finished_at BIGINT,
    request     TEXT   NOT NULL,           -- JSON
    result      TEXT,                      -- JSON
    error       TEXT,                      -- of the last attempt that failed
    UNIQUE (job_id, position)
);

CREATE INDEX job_items_ready ON job_items (status, priority DESC, run_after, id);
CREATE INDEX job_items_lease ON job_items (status, lease_until);
