"""Opening source files: what is missing, empty or damaged gets one kind of message."""

from pathlib import Path

from kerasseg.spec import DataError

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
