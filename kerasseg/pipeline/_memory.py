"""The memory of batches, used again and again."""

import weakref

import numpy as np

_ALIGNMENT = 64
"""Bytes: where TensorFlow's tensors begin."""


class BatchMemory:
    """Hands out arrays for TensorFlow to take over, and hands their memory out again once nobody holds them.

    Fresh memory comes from the system cleared, which takes a good part of a batch's time. What is kept is never more
    than was held at one time, and only for batches of the same size.
    """

    def __init__(self):
        self._free: dict[str, list[np.ndarray]] = {}

    def array(self, use: str, shape, dtype) -> np.ndarray:
        """Returns an array of any content that begins where TensorFlow's tensors do; others it would copy.

        Args:
            use: What it is for: memory that was lent for the same is tried first.
            shape: Of the array.
            dtype: Of NumPy.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = self._free.setdefault(use, [])
        try:
            while len(memory := free.pop()) != size + _ALIGNMENT:
                pass
        except IndexError:
            memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        lease = _Lease(memory[start : start + size].view(dtype).reshape(shape))
        weakref.finalize(lease, free.append, memory).atexit = False
        return np.asarray(lease)


class _Lease:
    """What an array and all views of it keep alive; with it ends the loan of the memory."""

    def __init__(self, array: np.ndarray):
        self.__array_interface__ = array.__array_interface__
