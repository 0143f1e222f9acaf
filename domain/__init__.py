"""The business: aggregates, commands, refusals and the entry format. May import `merkle` and nothing else of ours.

Read `commands.py` for what can be asked, `ledger.py` for who decides it, `errors.py` for how it is refused.
"""
