"""The tables of read.db. All are derived from the log and the anchor book; `SCHEMA_VERSION` grows with every change.

Amounts of single trades fit 64 bits and are integers; balances are sums of any size and are decimal strings.
Every table but `progress` has a primary key that orders its rows the same way in every replay (`digest.py`).
"""

from typing import Final

SCHEMA_VERSION: Final = 2

_PROGRESS = """
CREATE TABLE progress (             -- written in the transaction of the rows it speaks of
    source TEXT PRIMARY KEY,        -- 'entries' or 'anchors'
    position INTEGER NOT NULL,
    leaf BLOB NOT NULL,
    log TEXT NOT NULL               -- origin of the only log this source reads
) WITHOUT ROWID
"""

_ENTRIES = """
CREATE TABLE entries (              -- the entries themselves: history, receipts and "as of" are read from their bytes
    position INTEGER PRIMARY KEY,
    trade INTEGER,                  -- of trade events: position of the trade's recording; its two sides may read it
    reader TEXT,                    -- of others: the only company that may read it, NULL for everybody
    entry BLOB NOT NULL             -- canonical JSON; its leaf hash is computed when it is asked for
);
CREATE INDEX entries_of_trade ON entries (trade) WHERE trade IS NOT NULL
"""

_BOOKS = """
CREATE TABLE books (
    position INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    chain_id INTEGER NOT NULL,
    contract TEXT NOT NULL,
    log_key TEXT NOT NULL,
    promise_key TEXT NOT NULL,
    previous TEXT,                  -- JSON of the head that this log succeeds
    recorded_at TEXT NOT NULL
)
"""

_COMPANIES = """
CREATE TABLE companies (
    position INTEGER PRIMARY KEY,   -- of its registration
    id TEXT NOT NULL UNIQUE,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    registered_at TEXT NOT NULL,
    state TEXT NOT NULL,            -- active, suspended
    reason TEXT NOT NULL,           -- of the last suspension or resumption
    version INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    updated_at TEXT NOT NULL
)
"""

_WALLETS = """
CREATE TABLE wallets (
    position INTEGER PRIMARY KEY,   -- of its opening
    id TEXT NOT NULL UNIQUE,
    company TEXT NOT NULL,
    subject TEXT NOT NULL,
    custody TEXT NOT NULL,          -- custodial, own
    opened_at TEXT NOT NULL,
    address TEXT NOT NULL,
    state TEXT NOT NULL,            -- active, frozen, closed
    reason TEXT NOT NULL,
    keys TEXT NOT NULL,             -- JSON: [[address, valid from position], ...]
    version INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX wallets_of_company ON wallets (company);
CREATE UNIQUE INDEX wallet_of_subject ON wallets (company, subject)
"""

_TRADES = """
CREATE TABLE trades (               -- what lists select by and events change; the other terms are in the first entry
    position INTEGER PRIMARY KEY,   -- of its recording: the keyset of every list
    id TEXT NOT NULL UNIQUE,
    recorded_by TEXT NOT NULL,
    seller TEXT NOT NULL,
    buyer TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL,        -- minor units
    traded_on TEXT NOT NULL,
    description TEXT NOT NULL,
    reference TEXT NOT NULL,
    state TEXT NOT NULL,            -- recorded, confirmed, settled, reversed
    open INTEGER NOT NULL,          -- minor units not settled yet; 0 once reversed
    disputed_by TEXT NOT NULL,      -- '' when undisputed
    pending TEXT,                   -- JSON of `rows.Pending`: what waits for the other side, NULL for nothing
    last_position INTEGER NOT NULL
);
CREATE INDEX trades_of_seller ON trades (seller);
CREATE INDEX trades_of_buyer ON trades (buyer);
CREATE INDEX trade_references ON trades (recorded_by, reference) WHERE reference <> ''
"""

_BALANCES = """
CREATE TABLE balances (             -- double entry: each row has a twin with the sides swapped and the sign turned
    company TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    currency TEXT NOT NULL,
    units TEXT NOT NULL,            -- signed decimal: above zero the company is owed, below zero it owes
    position INTEGER NOT NULL,      -- of the last change
    pair INTEGER NOT NULL,          -- position of the first change: names the pair in `postings`
    PRIMARY KEY (company, counterparty, currency)
) WITHOUT ROWID;
CREATE TABLE postings (             -- every change of a pair's balance
    pair INTEGER NOT NULL,
    position INTEGER NOT NULL,
    balance TEXT NOT NULL,          -- after the change, seen from the lesser company code
    PRIMARY KEY (pair, position)
) WITHOUT ROWID
"""

_STORE_INDEX = """
CREATE TABLE store_index (          -- where to look for what stores have said: ids only, the aggregates say the rest
    position INTEGER NOT NULL,
    name TEXT NOT NULL,             -- user, moved, line, charge, case
    key TEXT NOT NULL,              -- what is looked up: a pseudonym, an aggregate, a charge, a kind of case
    about TEXT NOT NULL,            -- what it leads to: a subscription, a binding, a case
    PRIMARY KEY (position, name)
) WITHOUT ROWID;
CREATE INDEX store_index_key ON store_index (name, key, position)
"""

_ANCHORS = """
CREATE TABLE anchors (              -- stored once; receipts are joined at read time
    id TEXT PRIMARY KEY,
    chain_id INTEGER NOT NULL,
    contract TEXT NOT NULL,
    log_id TEXT NOT NULL,
    nonce INTEGER NOT NULL,
    size INTEGER NOT NULL,
    root TEXT NOT NULL,             -- 64 hex digits
    tx_hash TEXT NOT NULL,
    state TEXT NOT NULL,            -- pending, mined, final, failed
    block_number INTEGER,
    block_hash TEXT,
    block_time INTEGER,             -- unix seconds
    log_index INTEGER,
    gas_used INTEGER,
    reason TEXT NOT NULL,           -- of the last failure or return
    independent INTEGER NOT NULL,   -- 0 on the embedded chain
    version INTEGER NOT NULL,
    first_position INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    submitted_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX live_anchors ON anchors (size, nonce) WHERE state <> 'failed';
CREATE UNIQUE INDEX anchors_in_order ON anchors (first_position);
CREATE TABLE anchor_entries (
    position INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL,
    recorded_at TEXT NOT NULL,
    type TEXT NOT NULL,
    anchor TEXT NOT NULL,
    tx_hash TEXT NOT NULL
);
CREATE INDEX entries_of_anchor ON anchor_entries (anchor);
CREATE INDEX anchors_of_tx ON anchor_entries (tx_hash)
"""

STATEMENTS: Final = tuple(
    statement
    for table in (_PROGRESS, _ENTRIES, _BOOKS, _COMPANIES, _WALLETS, _TRADES, _BALANCES, _STORE_INDEX, _ANCHORS)
    for statement in table.split(";\n")
)

ENTRY_TABLES: Final = {
    "entries": "position",
    "books": "position",
    "companies": "position",
    "wallets": "position",
    "trades": "position",
    "balances": "company, counterparty, currency",
    "postings": "pair, position",
    "store_index": "position, name",
}
ANCHOR_TABLES: Final = {"anchors": "id", "anchor_entries": "position"}
TABLES_OF_SOURCE: Final = {"entries": ENTRY_TABLES, "anchors": ANCHOR_TABLES}
