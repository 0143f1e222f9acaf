"""The same stores on PostgreSQL: one schema a book, several processes at once. `database.py` is how they connect."""
