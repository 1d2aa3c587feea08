"""PNG files as chunks: the common kinds of mask become grey ones without being packed again."""

import struct
import zlib

import numpy as np

from kerasseg.records._files import MAX_PIXELS

MAGIC = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3


def grey_form(data: bytes) -> tuple[np.ndarray, bytes] | None:
    """Returns the values of a grey or palette PNG of 8 bits, and a grey PNG that holds just these, packed as they were.

    Palettes and all that is not pixels are left out. All checksums are verified: those of the chunks and that of the
    packed data.

    Returns:
        uint8 [H, W], grey values or palette indices, and the file; None where the PNG is of another kind, has filtered
        rows (which decode slower), or what is packed is not as long as it should be.

    Raises:
        ValueError: A chunk is damaged or missing.
    """
    chunks = read_chunks(data)
    width, height, bits, kind, *methods = struct.unpack(">IIBBBBB", chunks[0][1])
    if bits != 8 or kind not in (_GREY, _PALETTE) or any(methods) or not 0 < width * height <= MAX_PIXELS:
        return None
    packed = b"".join(content for name, content in chunks if name == b"IDAT")
    rows = _unpacked(packed, height, width + 1)
    if rows is None or rows[:, 0].any():
        return None
    return np.ascontiguousarray(rows[:, 1:]), _grey_file(width, height, 8, packed)


def unfiltered(values: np.ndarray) -> bytes:
    """Returns a grey PNG of uint8 or uint16 [H, W] whose rows are packed as they are (OpenCV can do so since 4.12)."""
    height, width = values.shape
    bits = 8 * values.dtype.itemsize
    rows = np.zeros((height, 1 + width * values.dtype.itemsize), np.uint8)
    rows[:, 1:] = np.ascontiguousarray(values, f">u{values.dtype.itemsize}").view(np.uint8).reshape(height, -1)
    return _grey_file(width, height, bits, zlib.compress(rows, 3))


def read_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Returns (name, content) of all chunks of a PNG file, to its end; what comes behind that is not looked at.

    Raises:
        ValueError: A checksum is wrong, the file is cut short, or has no header.
    """
    position, chunks = 8, []
    while not chunks or chunks[-1][0] != b"IEND":
        if position + 12 > len(data):
            raise ValueError(f"it ends at byte {len(data)}")
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of what begins at byte {position}")
        chunks.append((data[position + 4 : position + 8], data[position + 8 : end]))
        position = end + 4
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("it has no header")
    return chunks


def _grey_file(width: int, height: int, bits: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, _GREY, 0, 0, 0)
    return b"".join([MAGIC, _chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")])


def _chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _unpacked(packed: bytes, height: int, width: int) -> np.ndarray | None:
    """Returns uint8 [height, width]; None where that is not exactly what is packed."""
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, height * width + 1)
    except zlib.error:
        return None
    if len(raw) != height * width or not unpacker.eof or unpacker.unused_data:
        return None
    return np.frombuffer(raw, np.uint8).reshape(height, width)
