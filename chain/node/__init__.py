"""The embedded chain: an Ethereum node of our own, py-evm over one SQLite file, JSON-RPC on loopback.

Runs as a child process (`python -m chain.node FILE --port N --chain-id ID`). It is local and therefore no
evidence against its operator; everything that shows one of its anchors says so. Imports nothing of ours but
`chain.parent`; the only part of `chain` that may use sqlite3.
"""
