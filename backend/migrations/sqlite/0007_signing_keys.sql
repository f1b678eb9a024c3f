-- Keys that sign access tokens, made by `backend key rotate`. The one that began to sign last signs.

CREATE TABLE signing_keys (
    id         TEXT    NOT NULL PRIMARY KEY, -- the `kid`
    sealed     BLOB    NOT NULL,             -- nonce, PKCS#8 under AES-256-GCM, tag
    created_at INTEGER NOT NULL,
    signs_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
