"""Plays the app stores' and the existing billing system's part: real HTTP, real signatures, faults on demand.

For demos, load and fault tests, and developers of apps. Imports nothing of ours: it knows the stores' formats from the
stores' own pages. Starlette and uvicorn serve it.
"""
