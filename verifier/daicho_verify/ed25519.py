"""Ed25519 verification, strict: canonical S, canonical points, no key of small order (RFC 8032 section 5.1.7).

Checks the equation without the cofactor, on encoded bytes, so R must be canonical too. Verify only: there is no code
here that touches a secret, hence nothing needs constant time.
"""

import hashlib

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_BX = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A
_BY = 4 * pow(5, -1, _P) % _P
_BASE = (_BX, _BY, 1, _BX * _BY % _P)
_NEUTRAL = (1).to_bytes(32, "little")
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)
KEY_BYTES = 32
_SIGNATURE_BYTES = 64

_Point = tuple[int, int, int, int]  # extended coordinates X, Y, Z, T of RFC 8032 section 5.1.4


def _add(a: _Point, b: _Point) -> _Point:
    p = (a[1] - a[0]) * (b[1] - b[0]) % _P
    q = (a[1] + a[0]) * (b[1] + b[0]) % _P
    r = 2 * a[3] * b[3] * _D % _P
    s = 2 * a[2] * b[2] % _P
    e, f, g, h = q - p, s - r, s + r, q + p
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiply(scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _decode(data: bytes) -> _Point | None:
    """Decode a point (section 5.1.3); None when it is not on the curve or not encoded canonically."""
    y = int.from_bytes(data, "little")
    sign = y >> 255
    y &= (1 << 255) - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Say whether `signature` (64 bytes) of `message` was made by `public_key` (32 bytes); never raises."""
    if len(public_key) != KEY_BYTES or len(signature) != _SIGNATURE_BYTES:
        return False
    key = _decode(public_key)
    s = int.from_bytes(signature[32:], "little")
    if key is None or s >= _L or _encode(_multiply(8, key)) == _NEUTRAL:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % _L
    minus_key: _Point = (_P - key[0], key[1], key[2], _P - key[3])
    return _encode(_add(_multiply(s, _BASE), _multiply(k, minus_key))) == signature[:32]
