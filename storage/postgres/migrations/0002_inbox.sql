-- What came from outside, as ciphertext, beside the entries that tell of it. Never changed, never deleted.

CREATE TABLE stored_events_parcels (
    number BIGINT PRIMARY KEY,           -- gapless, under the writer's lock
    position BIGINT NOT NULL,            -- of the entry that tells of it
    payload TEXT COLLATE "C" NOT NULL,   -- SHA-256 of `sealed`, in hex
    owner TEXT COLLATE "C" NOT NULL,     -- names the key it is sealed under
    sealed BYTEA NOT NULL,
    headers BYTEA NOT NULL,
    proof BYTEA NOT NULL
);
ALTER TABLE stored_events_parcels ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX stored_events_parcels_payload ON stored_events_parcels (payload);

GRANT SELECT, INSERT ON stored_events_parcels TO {writer};
GRANT SELECT ON stored_events_parcels TO {reader};
