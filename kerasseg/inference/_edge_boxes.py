"""EdgeBoxes: boxes that may hold an object, from the edges of an image."""

from pathlib import Path

import numpy as np

from kerasseg.spec import DataError


class EdgeBoxes:
    """Finds boxes that may hold an object, the most promising first. Needs the extra `proposals`.

        segmenter = Segmenter("deconvnet.keras", proposals=Proposals(EdgeBoxes("model.yml.gz")))

    A box is promising if it encloses whole contours and cuts few. The edges come from the random forest that the
    authors trained, whose file OpenCV's documentation of `ximgproc` names (`model.yml.gz`, 5 MB; it is not part of any
    package), or, without it, from the image's gradient, which takes texture for contours: less good boxes.

    Args:
        edges: The forest's file; None: the gradient of the smoothed image.
        limit: How many boxes to return, at most. DeconvNet's authors rank about 2000.
        enlarge: Factor of the boxes' sides, about their centres, 3 at most. DeconvNet's authors publish enlarged boxes,
            but do not say by how much; 1.2 is what they enlarge objects by for training.

    Call: pixels [H, W, 3] RGB or [H, W, 1], 0-255, and a name that is not looked at; returns float32 [N, 4]: ymin,
        xmin, ymax, xmax, where 0 and 1 are the outer edges of the image. They may leave it.
    Raises:
        ImportError: OpenCV's extra modules are missing.
        DataError: The file of the forest cannot be read.
        ValueError: `limit` or `enlarge` is out of range; of the call: the image has other channels.
    Reference: Zitnick & Dollar 2014, ECCV; Dollar & Zitnick 2013, ICCV (edges).
    """

    def __init__(self, edges: str | Path | None = None, *, limit: int = 2000, enlarge: float = 1.2):
        if limit < 1 or not 0 < enlarge <= 3:
            raise ValueError(f"limit must be positive, enlarge 3 at most, got limit={limit!r}, enlarge={enlarge!r}")
        self.enlarge = enlarge
        cv2 = _opencv_with_extras()
        self._boxes = cv2.ximgproc.createEdgeBoxes(maxBoxes=limit)
        self._forest = None if edges is None else _forest(cv2, Path(edges))

    def __call__(self, image: np.ndarray, key: str | None = None) -> np.ndarray:
        height, width, channels = image.shape
        if channels not in (1, 3):
            raise ValueError(f"EdgeBoxes take images of 1 or 3 channels, got {channels}")
        pixels = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)) / 255, np.float32)
        edges = _gradient(pixels) if self._forest is None else self._edges(pixels)
        found, _ = self._boxes.getBoundingBoxes(*edges)
        if not len(found):
            return np.zeros((0, 4), np.float32)
        x, y, w, h = np.asarray(found, np.float64).T
        centre, half = np.stack([y + h / 2, x + w / 2], 1), np.stack([h, w], 1) / 2 * self.enlarge
        return (np.concatenate([centre - half, centre + half], 1) / (height, width, height, width)).astype(np.float32)

    def _edges(self, pixels):
        edges = self._forest.detectEdges(pixels)
        directions = self._forest.computeOrientation(edges)
        return self._forest.edgesNms(edges, directions), directions


def _gradient(pixels):
    """Returns the strength of thin edges, 0-1, and the direction across them, 0 to pi, of an image of 0-1."""
    from kerasseg._opencv import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (0, 0), 2)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength, tiny = np.hypot(across, down), np.finfo(np.float32).tiny
    x, y = (side / np.maximum(strength, tiny) for side in (across, down))
    rows, columns = np.indices(grey.shape, np.float32)
    beside = [cv2.remap(strength, columns + s * x, rows + s * y, cv2.INTER_LINEAR, borderValue=0) for s in (1, -1)]
    thin = np.where(strength >= np.maximum(*beside), strength, 0) / max(strength.max(), tiny)
    return thin.astype(np.float32), np.mod(np.arctan2(down, across), np.pi).astype(np.float32)


def _opencv_with_extras():
    from kerasseg._opencv import cv2

    if not hasattr(cv2, "ximgproc"):
        raise ImportError(
            f"EdgeBoxes need OpenCV's extra modules, and OpenCV {cv2.__version__} is here without them: "
            "pip uninstall opencv-python && pip install 'kerasseg[proposals]' (opencv-contrib-python, which holds the "
            "whole of OpenCV). Boxes made elsewhere can be read from files"
        )
    return cv2


def _forest(cv2, path: Path):
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected the forest of structured edges, model.yml.gz")
    try:
        return cv2.ximgproc.createStructuredEdgeDetection(str(path))
    except cv2.error as error:
        raise DataError(f"{path}: is no forest of structured edges that OpenCV can read") from error
