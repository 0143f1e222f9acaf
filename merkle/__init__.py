"""The Merkle tree of RFC 6962 and the C2SP formats around it; imports nothing of ours.

Everything here is pure: no files, no clock, no network. `hashing` (leaf and node), `compact_range` (the right
edge alone), `flat_log` (the whole tree in memory), `proofs` and `subtrees` (making and checking), `tiles`
(paths and bundles), `notes` and `checkpoint` (signed heads), `log_view` (what is published, for any thread).
"""
