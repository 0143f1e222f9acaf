"""The HTTP API: commands, queries, proofs, the log's tiles. May import domain, merkle, storage and projections.

`app.create_app` builds it from `services.Services` (what it needs of the rest) and `settings.ApiSettings`. Every
operation is a row of a table in `routes/`; `operations.py` says what a row holds, and the same rows give routing,
authorisation and the OpenAPI document.
"""
