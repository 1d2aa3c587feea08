"""OpenCV, imported here alone, so that the one common fault of its installation is explained."""

try:
    import cv2
except ImportError as error:
    raise ImportError(
        f"opencv-python cannot be loaded ({error}). Servers lack the window libraries that it needs; the same library "
        "without windows: pip uninstall opencv-python && pip install opencv-python-headless"
    ) from error

__all__ = ["cv2"]
