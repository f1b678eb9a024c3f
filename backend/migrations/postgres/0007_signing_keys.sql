-- Keys that sign access tokens, made by `backend key rotate`. The one that began to sign last signs.

CREATE TABLE signing_keys (
    id         TEXT   COLLATE "C" NOT NULL PRIMARY KEY, -- the `kid`
    sealed     BYTEA  NOT NULL,                         -- nonce, PKCS#8 under AES-256-GCM, tag
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL
);
