"""`daicho check`: re-derives everything from the events and names the first position that differs.

    1 entries      every row's bytes are canonical, gapless, in time order, and say what the row says
    2 tree         every leaf hash of the log is that of the entry
    3 checkpoints  every signed checkpoint verifies and has the tree's root at its size
    4 anchors      every anchor recorded has the tree's root at its size, and the contract's events agree
    5 projections  the read models equal a full replay
    6 signatures   (with --signatures) every signed entry is by the key valid at its position

It reads at a pinned position, beside a running service, and writes nothing.
"""
