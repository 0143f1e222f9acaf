-- One book: entries, claims, log, due work, anchor lanes, vault. `{schema}`, `{writer}` and `{reader}` are filled in.
-- Text that orders or compares has the collation "C": bytes, on every machine.

CREATE TABLE stored_events (
    notification_id BIGINT PRIMARY KEY,  -- the position: gapless, one more than the leaf's index
    originator_id TEXT COLLATE "C" NOT NULL,
    originator_version BIGINT NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    state BYTEA NOT NULL,                -- the entry's bytes
    UNIQUE (originator_id, originator_version)
);
ALTER TABLE stored_events ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE stored_events_claims (
    key TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL DEFAULT '',
    count BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE anchor_events (
    notification_id BIGINT PRIMARY KEY,
    originator_id TEXT COLLATE "C" NOT NULL,
    originator_version BIGINT NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    state BYTEA NOT NULL,
    UNIQUE (originator_id, originator_version)
);

CREATE TABLE tracking (
    application_name TEXT COLLATE "C" PRIMARY KEY,
    notification_id BIGINT NOT NULL
);

-- the log: leaf hashes in tiles of 256, how far they go, every signed checkpoint

CREATE TABLE tile (number BIGINT PRIMARY KEY, hashes BYTEA NOT NULL);
ALTER TABLE tile ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE TABLE reached (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    position BIGINT NOT NULL,
    leaf BYTEA NOT NULL
);
INSERT INTO reached VALUES (1, 0, '');
CREATE TABLE checkpoints (
    size BIGINT PRIMARY KEY,
    root BYTEA NOT NULL,
    note BYTEA NOT NULL,
    signed_at TEXT NOT NULL
);

-- due work and how far each processor has come

CREATE TABLE due_work (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL UNIQUE,
    payload TEXT NOT NULL,
    due_at DOUBLE PRECISION NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    leased_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    lease_owner TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    last_error TEXT NOT NULL DEFAULT '',
    dead INTEGER NOT NULL DEFAULT 0,
    sequence TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX due_work_sequence ON due_work (sequence, id) WHERE sequence <> '';
CREATE INDEX due_work_next ON due_work (kind, due_at) WHERE dead = 0;
CREATE TABLE processor_position (
    name TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL,
    leaf BYTEA NOT NULL,
    state TEXT NOT NULL
);
-- who leads where one process at a time may work; `epoch` grows with every change of hands
CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);
-- what each worker process says of itself, for /readyz and metrics; nothing is decided by it
CREATE UNLOGGED TABLE processor_status (
    name TEXT COLLATE "C" PRIMARY KEY,
    position BIGINT NOT NULL,
    lag BIGINT NOT NULL,
    state TEXT NOT NULL,
    error TEXT NOT NULL,
    worker TEXT NOT NULL,
    reported_at DOUBLE PRECISION NOT NULL
);

-- anchor lanes

CREATE TABLE lanes (
    lane BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain_id BIGINT NOT NULL,
    publisher TEXT COLLATE "C" NOT NULL,
    contract TEXT NOT NULL,
    log_id BYTEA NOT NULL,
    fork TEXT NOT NULL DEFAULT '',
    opened BIGINT NOT NULL DEFAULT 0,    -- grows with every opening: whoever opened it before writes no more
    UNIQUE (chain_id, publisher)
);
CREATE TABLE lane_slots (
    lane BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    state TEXT NOT NULL,
    tx_hash BYTEA,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    block_number BIGINT,
    block_hash BYTEA,
    log_index BIGINT,
    block_time BIGINT,
    gas_used BIGINT,
    sent_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    audited_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (lane, nonce)
);
CREATE INDEX lane_slots_state ON lane_slots (lane, state, audited_at);
CREATE TABLE lane_attempts (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane BIGINT NOT NULL,
    nonce BIGINT NOT NULL,
    tx_hash BYTEA NOT NULL UNIQUE,
    old_size BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL,
    raw BYTEA NOT NULL,
    max_fee TEXT NOT NULL,
    tip TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX lane_attempts_nonce ON lane_attempts (lane, nonce);
CREATE TABLE lane_outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);

-- the vault: ciphertext only

CREATE TABLE vault_identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    chain_id BIGINT NOT NULL,
    contract TEXT NOT NULL
);
CREATE TABLE vault_keys (
    purpose TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    rotation TEXT COLLATE "C" NOT NULL,
    kek BIGINT NOT NULL,
    wrap_nonce BYTEA NOT NULL,
    wrapped_key BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL,
    PRIMARY KEY (purpose, owner, version),
    UNIQUE (purpose, owner, address),
    UNIQUE (purpose, owner, rotation)
);
CREATE INDEX vault_keys_kek ON vault_keys (kek);
CREATE TABLE vault_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size BIGINT NOT NULL,
    root BYTEA NOT NULL
);
CREATE TABLE vault_subjects (
    pseudonym TEXT COLLATE "C" PRIMARY KEY,
    lookup BYTEA UNIQUE,
    kek BIGINT NOT NULL,
    wrap_nonce BYTEA NOT NULL,
    wrapped_key BYTEA NOT NULL,
    nonce BYTEA NOT NULL,
    ciphertext BYTEA NOT NULL
);
CREATE INDEX vault_subjects_kek ON vault_subjects (kek);
CREATE TABLE vault_audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    who TEXT NOT NULL,
    purpose TEXT NOT NULL,
    owner TEXT NOT NULL,
    digest BYTEA NOT NULL
);

-- who may do what: nobody who serves can change or delete what was written once

GRANT USAGE ON SCHEMA {schema} TO {writer}, {reader};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {writer};
GRANT SELECT ON schema_version, stored_events, stored_events_claims, anchor_events, tracking, tile, reached, checkpoints,
    due_work, processor_position, processor_status, leases, lanes, lane_slots, lane_attempts, lane_outbox TO {reader};
GRANT INSERT ON stored_events, stored_events_claims, anchor_events, checkpoints, vault_audit TO {writer};
GRANT INSERT, UPDATE ON tracking, tile, reached, leases, vault_identity, vault_keys, vault_head, vault_subjects TO {writer};
GRANT INSERT, UPDATE, DELETE ON due_work, processor_position, processor_status, lanes, lane_slots, lane_attempts,
    lane_outbox TO {writer};
