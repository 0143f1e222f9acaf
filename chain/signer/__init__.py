"""The signer: a process of its own that holds the keys and takes typed requests over a unix socket.

Imports domain, merkle, contracts and the key vault; never storage (the vault's store is named on the command
line).
"""
