"""Reading MATLAB's files (versions 5 to 7), of which damaged ones crash scipy's reader, and the process with it.

Source: MathWorks, "MAT-File Format", levels 5 and 7. A file is 128 bytes of header and a row of elements: type and
length (4 bytes each, or 2 each before up to 4 bytes of data), data, and zeros up to a multiple of 8 bytes.
"""

import math
import struct
import zlib

import numpy as np

from kerasseg.records._files import MAX_PIXELS, damaged, read_bytes
from kerasseg.spec import DataError

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Of the types of elements."""

_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""Of the classes of arrays: numbers are stored as the smallest type that holds them."""

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_MAX_DEPTH = 16
_MAX_BYTES = 8 * MAX_PIXELS


def read_mat(path) -> dict:
    """Reads a .mat file.

    Returns:
        Name to value: arrays of numbers [rows, columns, ...], texts as [rows] of str, cells as arrays of objects, a
        structure as a dictionary of its fields, an array of structures as a list of such. Sparse, complex and other
        values are None.

    Raises:
        DataError: The file is missing, damaged, cut short, none of MATLAB's, or of version 7.3.
    """
    data = read_bytes(path)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise damaged(path, "no header of a .mat file")
    version = struct.unpack(f"{order}H", data[124:126])[0]
    if version == 0x0200:
        raise DataError(f"{path} is a MATLAB 7.3 file, which is not read; save it with -v7 instead")
    try:
        if version != 0x0100:
            raise ValueError(f"version {version:#06x}, expected 0x0100")
        return _Reader(order).variables(memoryview(data)[128:])
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError, OverflowError) as error:
        raise damaged(path, error) from error


class _Reader:
    def __init__(self, order: str):
        self._order = order

    def variables(self, data: memoryview) -> dict:
        found, position = {}, 0
        while position < len(data):
            kind, content, position = self._element(data, position)
            if kind == _COMPRESSED:
                unpacked = _decompressed(content)
                kind, content, end = self._element(unpacked, 0)
                if end < len(unpacked):
                    raise ValueError(f"{len(unpacked) - end} bytes after a variable")
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind} where a variable is expected")
            name, value = self._matrix(content, 0)
            found[name] = value
        return found

    def _element(self, data: memoryview, position: int) -> tuple[int, memoryview, int]:
        """Returns type, data, and where the next element begins."""
        (kind,) = struct.unpack_from(f"{self._order}I", data, position)
        if kind >> 16:
            size, start, stop = kind >> 16, position + 4, position + 8
            if size > 4:
                raise ValueError(f"a short element of {size} bytes")
            kind &= 0xFFFF
        else:
            (size,) = struct.unpack_from(f"{self._order}I", data, position + 4)
            start = position + 8
            stop = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        content = data[start : start + size]
        if len(content) < size:
            raise ValueError(f"an element of {size} bytes of which {len(content)} are there")
        return kind, content, stop

    def _matrix(self, data: memoryview, depth: int) -> tuple[str, object]:
        """Returns name and value of an array."""
        if not len(data):
            return "", np.zeros((0, 0))
        if depth > _MAX_DEPTH:
            raise ValueError(f"structures more than {_MAX_DEPTH} deep")
        kind, content, position = self._element(data, 0)
        if kind != 6 or len(content) != 8:
            raise ValueError("an array without flags")
        (flags,) = struct.unpack_from(f"{self._order}I", content)
        shape, position = self._numbers(data, position, 5)
        name, position = self._bytes(data, position)
        shape, kind = [int(n) for n in shape], flags & 0xFF
        if len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"an array of shape {shape}")
        value = None
        if kind in _CLASSES and not flags & 0x800:
            value, _ = self._numbers(data, position)
            value = _shaped(value.astype(_CLASSES[kind]), shape)
        elif kind in (_CELL, _STRUCT):
            value = self._cells(data, position, shape, kind, depth)
        elif kind == _CHAR:
            value = self._text(data, position, shape)
        return name.decode("latin-1"), value

    def _numbers(self, data, position, expected: int | None = None) -> tuple[np.ndarray, int]:
        kind, content, stop = self._element(data, position)
        if kind not in _NUMBERS or (expected and kind != expected):
            raise ValueError(f"an element of type {kind} where numbers are expected")
        return np.frombuffer(content, self._order + _NUMBERS[kind]), stop

    def _bytes(self, data, position) -> tuple[bytes, int]:
        values, stop = self._numbers(data, position)
        return values.tobytes().rstrip(b"\0"), stop

    def _cells(self, data, position, shape, kind, depth):
        fields = [b""]
        if kind == _STRUCT:
            (length,), position = self._numbers(data, position, 5)
            names, position = self._numbers(data, position)
            names = names.tobytes()
            if length < 1 or len(names) % length:
                raise ValueError(f"names of fields of {length} bytes")
            fields = [names[i : i + length].split(b"\0")[0] for i in range(0, len(names), length)]
        count = math.prod(shape)
        if 8 * count * len(fields) > len(data):
            raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
        values = []
        for _ in range(count):
            value = {}
            for field in fields:
                found, content, position = self._element(data, position)
                if found != _MATRIX:
                    raise ValueError(f"an element of type {found} where an array is expected")
                value[field.decode("latin-1")] = self._matrix(content, depth + 1)[1]
            values.append(value)
        if kind == _STRUCT:
            return values[0] if count == 1 else values
        cells = np.empty(count, object)
        cells[:] = [value[""] for value in values]
        return _shaped(cells, shape)

    def _text(self, data, position, shape) -> np.ndarray:
        kind, content, _ = self._element(data, position)
        order = "le" if self._order == "<" else "be"
        coding = {2: "latin-1", 1: "latin-1", 4: f"utf-16-{order}", 16: "utf-8", 17: f"utf-16-{order}"}.get(kind)
        if coding is None:
            raise ValueError(f"an element of type {kind} where a text is expected")
        text = np.array(list(bytes(content).decode(coding)), dtype=object)
        if len(text) != math.prod(shape) or len(shape) != 2:
            raise ValueError(f"a text of {len(text)} letters in shape {shape}")
        return np.array(["".join(row) for row in _shaped(text, shape)], dtype=object)


def _decompressed(content: memoryview) -> memoryview:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(content, _MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"compressed data cut short, or of more than {_MAX_BYTES} bytes")
    return memoryview(unpacked)


def _shaped(values: np.ndarray, shape: list[int]) -> np.ndarray:
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} values in an array of shape {shape}")
    return values.reshape(shape, order="F")
