"""Opening source files: what is missing, empty or damaged gets one kind of message."""

from pathlib import Path

from kerasseg.spec import DataError

MAX_PIXELS = 178_956_970
"""Of one picture, Pillow's limit (a gigabyte at 6 bytes a pixel): a damaged header that claims more is refused."""

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_bytes(path) -> bytes:
    """Returns a file's content; raises `DataError` where it is missing or empty."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing; complete the data set, or leave this image out of its list")
    data = path.read_bytes()
    if not data:
        raise DataError(f"{path} is empty; fetch it again")
    return data


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does."""
    return data[:4] in _TIFF_MAGIC


def damaged(path, error: Exception | str) -> DataError:
    """Returns the error for a file whose content does not decode."""
    return DataError(f"{path} is damaged or cut short ({error}); fetch it again")


def check_size(name, width: int, height: int) -> None:
    """Raises `DataError` where a picture has no pixels, or claims more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise DataError(f"{name} is damaged ({width}x{height} pixels); fetch it again")
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name} claims {width}x{height} pixels; at most {MAX_PIXELS:,} are read: cut it into tiles if it is as "
            "large as that, else it is damaged: fetch it again"
        )
