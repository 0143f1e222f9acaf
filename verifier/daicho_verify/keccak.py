"""Keccak-256 as Ethereum uses it: the Keccak submission's padding (0x01), not FIPS 202's (0x06).

Source: "The Keccak reference", version 3.0, Keccak team, sections 1.2 and 1.3; rate 1,088 bits, output 256 bits.
"""

_MASK = (1 << 64) - 1
_RATE_BYTES = 136
_ROUNDS = 24


def _round_constants() -> tuple[int, ...]:
    """Give the 24 iota constants, from the degree-8 shift register of section 1.2."""
    register = 1
    constants = []
    for _ in range(_ROUNDS):
        constant = 0
        for j in range(7):
            if register & 1:
                constant |= 1 << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


def _rotations() -> tuple[tuple[int, int, int], ...]:
    """Give (from, to, bits) of rho and pi for the 24 lanes that move; lane index = x + 5y."""
    moves = []
    x, y = 1, 0
    for t in range(24):
        moves.append((x + 5 * y, y + 5 * ((2 * x + 3 * y) % 5), ((t + 1) * (t + 2) // 2) % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(moves)


_RC = _round_constants()
_MOVES = _rotations()


def _permute(lanes: list[int]) -> list[int]:
    """Apply Keccak-f[1600] to 25 lanes of 64 bits."""
    for constant in _RC:
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        for x in range(5):
            right = columns[(x + 1) % 5]
            d = columns[(x + 4) % 5] ^ (((right << 1) | (right >> 63)) & _MASK)
            for y in range(0, 25, 5):
                lanes[x + y] ^= d
        moved = [lanes[0]] * 25
        for source, target, bits in _MOVES:
            lane = lanes[source]
            moved[target] = ((lane << bits) | (lane >> (64 - bits))) & _MASK
        lanes = [
            moved[i] ^ (~moved[i - i % 5 + (i + 1) % 5] & moved[i - i % 5 + (i + 2) % 5] & _MASK) for i in range(25)
        ]
        lanes[0] ^= constant
    return lanes


def keccak256(data: bytes) -> bytes:
    """Give the 32-byte Keccak-256 hash of `data`."""
    padded = bytearray(data)
    padded.append(0x01)
    padded.extend(bytes(-len(padded) % _RATE_BYTES))
    padded[-1] |= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE_BYTES):
        for i in range(_RATE_BYTES // 8):
            lanes[i] ^= int.from_bytes(padded[start + 8 * i : start + 8 * i + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])
