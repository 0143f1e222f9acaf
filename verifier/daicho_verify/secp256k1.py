"""Recovery of the signer's Ethereum address from a secp256k1 signature (SEC 1 version 2.0, section 4.1.6).

Strict: v is 27 or 28, r and s are in range, s is in the lower half (EIP-2), so each signature has one form only.
Verify only: nothing here touches a secret.
"""

from daicho_verify.keccak import keccak256

_P = 2**256 - 2**32 - 977
N = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
_G = (
    0x79BE667E_F9DCBBAC_55A06295_CE870B07_029BFCDB_2DCE28D9_59F2815B_16F81798,
    0x483ADA77_26A3C465_5DA4FBFC_0E1108A8_FD17B448_A6855419_9C47D08F_FB10D4B8,
    1,
)
_INFINITY = (0, 1, 0)
_SIGNATURE_BYTES = 65
_FIRST_V = 27

_Point = tuple[int, int, int]  # Jacobian coordinates; z = 0 is the point at infinity


def _double(a: _Point) -> _Point:
    x, y, z = a
    yy = y * y % _P
    s = 4 * x * yy % _P
    m = 3 * x * x % _P
    nx = (m * m - 2 * s) % _P
    return (nx, (m * (s - nx) - 8 * yy * yy) % _P, 2 * y * z % _P)


def _add(a: _Point, b: _Point) -> _Point:
    if not a[2]:
        return b
    if not b[2]:
        return a
    za, zb = a[2] * a[2] % _P, b[2] * b[2] % _P
    ua, ub = a[0] * zb % _P, b[0] * za % _P
    sa, sb = a[1] * zb * b[2] % _P, b[1] * za * a[2] % _P
    if ua == ub:
        return _double(a) if sa == sb else _INFINITY
    h, r = ub - ua, sb - sa
    hh = h * h % _P
    hhh, v = h * hh % _P, ua * hh % _P
    x = (r * r - hhh - 2 * v) % _P
    return (x, (r * (v - x) - sa * hhh) % _P, h * a[2] * b[2] % _P)


def _sum_of_products(a: int, p: _Point, b: int, q: _Point) -> _Point:
    """Give aP + bQ with one run over the bits (Shamir's trick)."""
    both = _add(p, q)
    result: _Point = _INFINITY
    for i in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        result = _double(result)
        choice = (a >> i & 1, b >> i & 1)
        if choice == (1, 1):
            result = _add(result, both)
        elif choice == (1, 0):
            result = _add(result, p)
        elif choice == (0, 1):
            result = _add(result, q)
    return result


def address_of_signature(digest: bytes, signature: bytes) -> bytes:
    """Give the 20-byte address that signed `digest` (32 bytes) with `signature` (r || s || v, 65 bytes).

    Raises ValueError with the broken rule: length, v, range of r or s, high s, or no such point.
    """
    if len(signature) != _SIGNATURE_BYTES:
        raise ValueError("the signature must be 65 bytes")
    r, s, v = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64]
    if v not in {_FIRST_V, _FIRST_V + 1}:
        raise ValueError("v must be 27 or 28")
    if not 0 < r < N or not 0 < s < N:
        raise ValueError("r and s must be between 1 and the group order")
    if s > N // 2:
        raise ValueError("s is in the upper half (a second form of the same signature)")
    square = (r * r * r + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if (y * y - square) % _P:
        raise ValueError("r is not the x of a point")
    if y & 1 != v - _FIRST_V:
        y = _P - y
    inverse = pow(r, -1, N)
    z = int.from_bytes(digest)
    key = _sum_of_products(s * inverse % N, (r, y, 1), -z * inverse % N, _G)
    if not key[2]:
        raise ValueError("the recovered key is the point at infinity")
    zi = pow(key[2], -1, _P)
    x, y = key[0] * zi * zi % _P, key[1] * zi * zi * zi % _P
    return keccak256(x.to_bytes(32) + y.to_bytes(32))[12:]
