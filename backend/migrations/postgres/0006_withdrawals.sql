-- What was withdrawn before its end, and users who may not come in any more.

-- Numbers are given in the order of commits, because who withdraws takes turns: who reads on after one misses nothing.
CREATE TABLE withdrawals (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         TEXT   COLLATE "C" NOT NULL, -- token, subject or key
    value        TEXT   COLLATE "C" NOT NULL, -- a token's own id, a user's id, a key's public id
    issued_until BIGINT NOT NULL,             -- of subjects: tokens issued until then
    ends         BIGINT NOT NULL,             -- when what it is about would have ended by itself
    UNIQUE (kind, value)
);

CREATE INDEX withdrawals_ends ON withdrawals (ends);

ALTER TABLE users ADD COLUMN disabled_at BIGINT; -- not disabled, if null
