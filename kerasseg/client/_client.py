"""A served model as a function of images."""

import collections
import itertools
import random
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kerasseg.client import _images
from kerasseg.client._errors import RefusedError, ServerError, UnavailableError
from kerasseg.client._rest import Rest
from kerasseg.client._server import Server
from kerasseg.client._tiles import tiles
from kerasseg.spec import DataError

PROTOCOLS = ("rest", "grpc")
_FILES, _ARRAYS = "predict_bytes", "serving_default"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0

Image = np.ndarray | bytes | str | Path


class Client:
    """A model behind TensorFlow Serving, exported by `kerasseg.export.saved_model`.

        masks = Client("localhost:8501", model="unet").segment([image, "photo.jpg"])

    A client may be used from several threads. While the server is down or has too much to do (a refused or lost
    connection, HTTP 429, 502, 503, 504, gRPC UNAVAILABLE or RESOURCE_EXHAUSTED), requests are repeated, at first after
    0.1 s, then after longer and longer pauses of random length.

    Args:
        server: "host:port" or "http://host:port"; "https://host:port" encrypts the connection.
        model: The name that it is served by.
        version: A version of it; None: the newest that is served.
        label: The label of a version, such as "stable", in place of `version`.
        protocol: "rest" (port 8501 by default) or "grpc" (8500), which sends a quarter less and takes images of any
            number of channels.
        timeout_s: Seconds to wait for the connection, and for each answer.
        patience_s: Seconds for which a request is repeated while the server is not available; 0: never.
        batch_size: Images sent in one request.
        concurrency: Requests that are under way at a time.
        tile_size: Larger images are cut into tiles of so many pixels a side, and their masks put together; None: sent
            whole.
        overlap: Pixels that neighbouring tiles share at least. Half of it is what a pixel next to a cut sees of the
            neighbour.
    Raises:
        ValueError: `server` is no "host:port", or an argument is out of range.
    """

    def __init__(
        self,
        server: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        protocol: str = "rest",
        timeout_s: float = 60.0,
        patience_s: float = 10.0,
        batch_size: int = 4,
        concurrency: int = 4,
        tile_size: int | None = None,
        overlap: int = 128,
    ):
        if timeout_s <= 0 or batch_size < 1 or concurrency < 1:
            raise ValueError(
                f"timeout_s, batch_size and concurrency must be positive, got {timeout_s}, {batch_size}, {concurrency}"
            )
        if patience_s < 0:
            raise ValueError(f"patience_s must not be negative, got {patience_s}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        if tile_size is not None and not 0 <= overlap < tile_size:
            raise ValueError(f"overlap must lie in 0 to {tile_size - 1} for tiles of {tile_size} pixels, got {overlap}")
        self._server = Server.parse(server, model, version, label)
        self._transport = _transport(protocol)(self._server, timeout_s)
        self._patience_s, self._batch_size, self._concurrency = patience_s, batch_size, concurrency
        self._tile_size, self._overlap = tile_size, overlap

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def segment(self, images: Iterable[Image]) -> list[np.ndarray]:
        """Asks for the masks of images of any sizes.

        Args:
            images: Arrays uint8 or uint16, [H, W] or [H, W, C] in RGB order; or paths of image files; or the bytes of
                such files. Images of other than 1, 3 or 4 channels: uint8 arrays, over gRPC.

        Returns:
            For each image its class ids, uint8 [H, W].

        Raises:
            ServerError: The server is down or slow, does not have the model, or refuses an image.
            DataError: A file cannot be read.
            ValueError: An array is no image.
        """
        masks = []
        for mask in self.segment_each(images):
            if isinstance(mask, Exception):
                raise mask
            masks.append(mask)
        return masks

    def segment_each(self, images: Iterable[Image]) -> Iterator[np.ndarray | Exception]:
        """Asks for the masks of many images, and goes on where one fails.

        Images are taken from `images` as they are needed: `concurrency` x `batch_size` of them are under way at a time.

        Args:
            images: As for `segment`.

        Yields:
            For each image, in their order: its class ids, uint8 [H, W], or the `DataError`, `ValueError` or
            `ServerError` that `segment` would have raised for it.
        Raises:
            TypeError: `images` is a single image.
        """
        if isinstance(images, (np.ndarray, bytes, str, Path)):
            raise TypeError(f"expected a list of images, got one {type(images).__name__}; put it into a list")
        return self._segment_each(iter(images))

    def _segment_each(self, images):
        pool = ThreadPoolExecutor(self._concurrency)
        pending = collections.deque()
        try:
            while batch := list(itertools.islice(images, self._batch_size)):
                pending.append(pool.submit(self._masks, batch))
                if len(pending) == self._concurrency:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _masks(self, images) -> list:
        """Returns a mask or an exception for each image: one request for those that are sent whole."""
        results, files = [None] * len(images), {}
        for number, image in enumerate(images):
            try:
                special = self._special(image)
                if special is None:
                    files[number] = _images.file_bytes(image)
                else:
                    results[number] = special
            except (DataError, ValueError, ServerError) as error:
                results[number] = error
        for number, mask in zip(files, self._of_files(list(files.values())), strict=True):
            results[number] = mask
        return results

    def _special(self, image):
        """Returns the mask of an image that cannot be sent as one file; None: it can."""
        is_array = not isinstance(image, (bytes, str, Path))
        if is_array:
            image = _images.checked(np.asarray(image))
            if image.ndim == 3 and image.shape[2] not in _images.ENCODABLE_CHANNELS:
                return self._of_array(image)
        if self._tile_size is None:
            return None
        data = None if is_array else _images.file_bytes(image)
        size = image.shape[:2] if is_array else _images.size_of(data)
        if size is None or max(size) <= self._tile_size:
            return None
        name = image if isinstance(image, (str, Path)) else "the image"
        pixels = _images.in_opencv_order(image) if is_array else _images.decoded(data, name)
        return self._tiled(pixels, lambda tile: self._request(_FILES, [_images.png(tile)])[0])

    def _of_array(self, image):
        if not hasattr(self._transport, "predict_array"):
            raise ValueError(f'images of {image.shape[2]} channels can be sent over gRPC only: protocol="grpc"')
        if image.dtype != np.uint8:
            raise ValueError(f"images of {image.shape[2]} channels are sent as uint8, got {image.dtype}")

        def ask(tile):
            return self._patiently(lambda: self._transport.predict_array(_ARRAYS, tile))

        return ask(image) if self._tile_size is None else self._tiled(image, ask)

    def _tiled(self, pixels, ask):
        mask = np.empty(pixels.shape[:2], np.uint8)
        for cut, taken, put in tiles(mask.shape, self._tile_size, self._overlap):
            mask[put] = ask(pixels[cut])[taken]
        return mask

    def _of_files(self, files) -> list:
        """Returns a mask or an exception for each file. Where the server refuses them all for one, each goes alone."""
        if not files:
            return []
        try:
            return self._request(_FILES, files)
        except RefusedError as error:
            if len(files) == 1:
                return [error]
        except ServerError as error:
            return [error] * len(files)
        return [result for file in files for result in self._of_files([file])]

    def _request(self, signature, files) -> list[np.ndarray]:
        answers = self._patiently(lambda: self._transport.predict(signature, files))
        if len(answers) != len(files):
            raise ServerError(f"{self._server}: expected {len(files)} masks, got {len(answers)}")
        return [_images.decoded_mask(data) for data in answers]

    def _patiently(self, ask):
        """Repeats a request while the server is not available."""
        end, pause = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while True:
            try:
                return ask()
            except UnavailableError:
                # Random, so that many clients do not come back at the same moment.
                wait = pause * random.uniform(0.5, 1.0)
                if time.monotonic() + wait > end:
                    raise
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


def _transport(protocol):
    if protocol == "rest":
        return Rest
    try:
        from kerasseg.client._grpc import Grpc
    except ImportError as error:
        raise ImportError(
            f'protocol="grpc" needs grpcio and protobuf: pip install grpcio protobuf ({error})'
        ) from error
    return Grpc
