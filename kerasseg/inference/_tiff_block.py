"""Decoding a single tile or strip of a TIFF."""

import io
import struct

import numpy as np
import tifffile
from PIL import Image

# Tags of a picture that tell how its blocks are packed; copied to the file of a single block.
_PACKING = {
    "BitsPerSample": 3,
    "Compression": 3,
    "PhotometricInterpretation": 3,
    "FillOrder": 3,
    "SamplesPerPixel": 3,
    "Predictor": 3,
    "ExtraSamples": 3,
    "SampleFormat": 3,
    "YCbCrSubSampling": 3,
    "YCbCrPositioning": 3,
    "JPEGTables": 7,
}


def decode_block(
    file: tifffile.TiffFile, page: tifffile.TiffPage, number: int, shape: tuple[int, int, int]
) -> np.ndarray:
    """Returns a block of a page, [h, w, C] of the shape given.

    Raises:
        Exception: Whatever the decoders raise where the data is damaged or of a kind that they do not know.
    """
    file.filehandle.seek(page.dataoffsets[number])
    data = file.filehandle.read(page.databytecounts[number])
    if not data:  # A block that was never written is empty.
        return np.full(shape, page.nodata, page.dtype)
    try:
        block = page.decode(data, number, jpegtables=page.jpegtables)[0]
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        block = _decode_as_file(file, page, data, shape)
    if int(page.photometric) == 0 and block.dtype.kind in "bu":  # 0 is white
        block = ~block
    block = block.reshape(-1, *block.shape[-2:])
    if block.shape != shape:
        raise ValueError(f"it holds {block.shape} values, expected {shape}")
    return block


def _decode_as_file(file, page, data, shape) -> np.ndarray:
    """Decodes what tifffile would need a further package for (LZW, JPEG): as a small TIFF, by Pillow or OpenCV."""
    small = _single_block(file.byteorder, page, data, shape)
    if page.dtype.itemsize > 1 and shape[2] > 1:  # Pillow would give 8 bits.
        from kerasseg._opencv import cv2

        block = cv2.imdecode(np.frombuffer(small, np.uint8), cv2.IMREAD_UNCHANGED)
        if block is None:
            raise ValueError(f"{page.compression.name} does not decode")
        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[shape[2]]
        return block[..., order]
    with Image.open(io.BytesIO(small)) as image:
        return np.asarray(image).reshape(shape).astype(page.dtype, copy=False)


def _single_block(byteorder, page, data, shape) -> bytes:
    """Returns a TIFF file whose only strip is the block."""
    code, packed = {1: "B", 3: "H", 4: "I", 7: "B"}, io.BytesIO()
    tags = {256: (4, [shape[1]]), 257: (4, [shape[0]]), 278: (4, [shape[0]]), 279: (4, [len(data)]), 284: (3, [1])}
    for name, kind in _PACKING.items():
        value = page.tags.valueof(name)
        if value is not None:
            tags[tifffile.TIFF.TAGS[name]] = kind, list(value) if isinstance(value, (tuple, bytes)) else [int(value)]
    if tags[262][1] == [0]:
        tags[262] = 3, [1]
    if int(page.planarconfig) == 2:
        tags[258] = 3, tags[258][1][:1]
        tags[262], tags[277] = (3, [1]), (3, [1])
        tags.pop(338, None)
        if 339 in tags:
            tags[339] = 3, tags[339][1][:1]
    after = 8 + 2 + 12 * (len(tags) + 1) + 4
    values = {tag: struct.pack(f"{byteorder}{len(v)}{code[kind]}", *v) for tag, (kind, v) in tags.items()}
    outside = sum(len(value) for value in values.values() if len(value) > 4)
    tags[273], values[273] = (4, [0]), struct.pack(f"{byteorder}I", after + outside)
    packed.write((b"II" if byteorder == "<" else b"MM") + struct.pack(f"{byteorder}HIH", 42, 8, len(tags)))
    tail = b""
    for tag in sorted(tags):
        kind, numbers = tags[tag]
        place = values[tag].ljust(4, b"\0")
        if len(place) > 4:
            place, tail = struct.pack(f"{byteorder}I", after + len(tail)), tail + place
        packed.write(struct.pack(f"{byteorder}HHI", tag, kind, len(numbers)) + place)
    packed.write(b"\0\0\0\0" + tail + data)
    return packed.getvalue()
