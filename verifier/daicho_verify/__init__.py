"""daicho-verify: checks the evidence of a Daicho ledger without trusting its operator.

Lives alone: Python's standard library only, no code shared with the server. Nothing here is imported by the server.
"""

__version__ = "0.1.0"
