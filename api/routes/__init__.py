"""The tables of operations, one module a resource. Each gives its rows for a `Context`."""
