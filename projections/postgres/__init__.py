"""The same read models in PostgreSQL: `store.py` opens them, `dialect.py` is all in which the two databases differ."""
