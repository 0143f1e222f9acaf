"""The processes of a cluster besides the API: one processor each, wired here, run by `worker.py`."""
