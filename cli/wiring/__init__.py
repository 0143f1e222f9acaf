"""All wiring, in the order in which a service starts: chain side, ledger side, streams, API."""
