"""Read models: pure folds of entries into SQLite rows, and the queries over them. May import `domain` and `merkle`.

Read `schema.py` for what is kept, `fold.py` for what an event changes, `projector.py` for how a batch is applied,
`queries.py`, `trades.py`, `balances.py` and `anchors.py` for what can be asked, `views.py` for what is answered.
Everything here is derived: `rebuild.py` makes it again from the log and says whether it was right.
"""
