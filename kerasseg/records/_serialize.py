"""`tf.train.Example` messages put together by hand: protobuf copies a photograph's bytes four times on the way.

Source: protobuf's encoding (protobuf.dev/programming-guides/encoding), tensorflow/core/example/{example,feature}.proto.
"""

import numpy as np

# (field number << 3 | 2): all that comes here is a length and so many bytes. The numbers are the same at each level.
_FIRST, _SECOND = b"\x0a", b"\x12"
_BYTES, _FLOATS, _INTS = b"\x0a", b"\x12", b"\x1a"


def serialized_example(features: dict[str, bytes | int | np.ndarray]) -> bytes:
    """Returns the bytes of a `tf.train.Example`, in order of the names.

    Args:
        features: Name to bytes, to an integer, or to an array [N] of float32 or of integers.
    """
    # Both lengths of the features around the large value come before it, so the parts are joined once, at the end.
    entries = [_entry(name.encode(), features[name]) for name in sorted(features, key=str.encode)]
    size = sum(len(part) for entry in entries for part in entry)
    return b"".join([_FIRST, _varint(size), *(part for entry in entries for part in entry)])


def _entry(name: bytes, value) -> tuple[bytes, ...]:
    """Returns the parts of one entry of the map, its length first."""
    if isinstance(value, bytes):
        kind, head, content = _BYTES, _BYTES + _varint(len(value)), value
    else:
        kind, packed = _packed(value)
        head, content = (_FIRST + _varint(len(packed)) if packed else b""), packed
    listed = kind + _varint(len(head) + len(content)) + head
    feature = _SECOND + _varint(len(listed) + len(content)) + listed
    key = _FIRST + _varint(len(name)) + name
    return _FIRST + _varint(len(key) + len(feature) + len(content)) + key + feature, content


def _packed(value) -> tuple[bytes, bytes]:
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return _FLOATS, value.astype("<f4").tobytes()
    numbers = value.tolist() if isinstance(value, np.ndarray) else [value]
    return _INTS, b"".join(_varint(number & 0xFFFFFFFFFFFFFFFF) for number in numbers)


def _varint(number: int) -> bytes:
    if number < 128:
        return bytes((number,))
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)
