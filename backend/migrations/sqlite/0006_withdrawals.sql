-- What was withdrawn before its end, and users who may not come in any more.

-- Numbers are never given twice: who reads on after one misses nothing.
CREATE TABLE withdrawals (
    seq          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind         TEXT    NOT NULL, -- token, subject or key
    value        TEXT    NOT NULL, -- a token's own id, a user's id, a key's public id
    issued_until INTEGER NOT NULL, -- of subjects: tokens issued until then
    ends         INTEGER NOT NULL, -- when what it is about would have ended by itself
    UNIQUE (kind, value)
) STRICT;

CREATE INDEX withdrawals_ends ON withdrawals (ends);

ALTER TABLE users ADD COLUMN disabled_at INTEGER; -- not disabled, if null
