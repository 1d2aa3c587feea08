"""Sums of an image's values under Gaussian kernels over place, and over place and colour together."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_LEAST = 1e-5
"""Kernels below are left out: in place and three colours they hold 1 / 3000 of a Gaussian's mass."""

_BOX = 128  # At most so many pixels are summed together.
_WIDE = 64  # Squared radius of a box, from which float32's rounding makes kernels wrong by more than 4e-6.
_TOGETHER = 32  # Pairs of boxes, and receiving boxes, that are worked on together.

_SMALL = 2**18
"""Multiplications of one matrix product up to which OpenBLAS keeps to one thread. Its threads wait busily for each
other: beside other processes they took twenty times as long. So small products are stacked, and spread over threads
of Python's."""


class PlaceSums:
    """out_i = sum over all pixels j, i included, of exp(-|p_i - p_j|^2 / 2 sigma^2) values_j; p is the place.

    Exact, but for kernels below 1e-7. One axis after the other, in strips, as products with banded matrices.
    """

    def __init__(self, shape: tuple[int, int], sigma: float):
        self._shape, self._sigma = shape, sigma
        self._radius = int(np.ceil(5.7 * sigma))

    def __call__(self, values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Values float32 [H*W, K] -> sums [H*W, K] of `dtype`."""
        H, W = self._shape
        rows = self._along(values.reshape(H, W, -1))
        columns = self._along(np.ascontiguousarray(rows.transpose(1, 0, 2)))
        return columns.transpose(1, 0, 2).reshape(H * W, -1).astype(dtype, copy=False)

    def _along(self, values):
        """Sums along the first of three axes."""
        out = np.empty_like(values)
        n, _, K = values.shape
        strip = max(1, min(64, _SMALL // (K * min(n, 64 + 2 * self._radius))))

        def fill(start):
            stop = min(start + strip, n)
            first, last = max(start - self._radius, 0), min(stop + self._radius, n)
            apart = np.arange(start, stop)[:, None] - np.arange(first, last)
            band = np.exp(-0.5 * (apart / self._sigma) ** 2).astype(np.float32)
            out[start:stop] = (band @ values[first:last].transpose(1, 0, 2)).transpose(1, 0, 2)

        _each(fill, range(0, n, strip))
        return out


class FeatureSums:
    """out_i = sum over all pixels j, i included, of exp(-|f_i - f_j|^2 / 2) values_j; f holds place and colour.

    Pixels receive each for itself, but send in groups: those in one cell of a grid in feature space send from their
    mean. The grid is as fine as it may be for each pixel to hear, on average, about `detail` groups with a kernel above
    1e-4. Where an image has no more pixels than that, as all small ones, each is a group of its own, and the sums are
    exact but for kernels below 1e-5.

    Receivers and groups are packed into boxes in feature space, and pairs of boxes that are out of reach are skipped.
    Time grows with (pixels) x `detail`, memory with the pixels.
    """

    def __init__(self, features: np.ndarray, detail: int):
        """Features float64 [N, D], in units of the kernel's sigma in each of the D directions."""
        groups, self.num_groups = _groups(features, detail)
        sizes = np.bincount(groups, minlength=self.num_groups)
        means = np.stack([np.bincount(groups, column, self.num_groups) / sizes for column in features.T], axis=1)
        self._receivers, self._senders = _boxes(features), _boxes(means)
        self._order = np.argsort(groups, kind="stable")
        self._starts = np.searchsorted(groups[self._order], np.arange(self.num_groups))
        here, self._there = features[self._receivers], means[self._senders]
        self._centres = here.mean(axis=1, keepdims=True)  # Distances from near by, for float32's sake;
        self._here = here - self._centres
        self._wide = (self._here**2).sum(-1).max(-1) > _WIDE  # where nothing is near, it takes float64.
        self._pairs = _in_reach(here, self._there)

    def __call__(self, values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
        """Values float32 [N, K] -> sums [N, K] of `dtype`."""
        K = values.shape[1]
        sent = np.add.reduceat(values[self._order], self._starts)[self._senders]
        sent[:, 1:][self._senders[:, 1:] == self._senders[:, :-1]] = 0  # What fills up a box sends nothing.
        out = np.empty(values.shape, dtype)
        most = max(1, _SMALL // self._receivers.shape[1] // self._senders.shape[1])

        def receive(first):
            receivers = self._receivers[first : first + _TOGETHER]
            total = np.zeros((*receivers.shape, K), dtype)
            for to, source in self._pairs[first // _TOGETHER]:
                kind = np.float64 if self._wide[first + to].any() else np.float32
                here = _extended(self._here[first + to].astype(kind), first=False)
                there = _extended((self._there[source] - self._centres[first + to]).astype(kind), first=True)
                kernel = (here @ there.transpose(0, 2, 1)).astype(np.float32, copy=False)
                np.exp(kernel, out=kernel)
                runs = np.flatnonzero(np.diff(to, prepend=-1))
                for k in range(0, K, most):
                    heard = kernel @ sent[source, :, k : k + most]
                    total[to[runs], :, k : k + most] += np.add.reduceat(heard, runs)
            out[receivers] = total  # What fills up a box repeats its last pixel.

        _each(receive, range(0, len(self._receivers), _TOGETHER))
        return out


def _in_reach(here, there):
    """For each `_TOGETHER` receiving boxes: lists of pairs (receiving box among them, sending box) in order."""
    low, high, other_low, other_high = here.min(1), here.max(1), there.min(1), there.max(1)
    limit = -2 * np.log(_LEAST)

    def near(first, last, others):
        gap = np.maximum(other_low[others] - high[first:last, None], low[first:last, None] - other_high[others])
        return (np.maximum(gap, 0) ** 2).sum(-1) < limit

    def pairs(first):
        last = first + _TOGETHER
        gap = np.maximum(other_low - high[first:last].max(0), low[first:last].min(0) - other_high)
        others = np.flatnonzero((np.maximum(gap, 0) ** 2).sum(-1) < limit)
        to, source = np.nonzero(near(first, last, others))
        return [
            (to[k : k + _TOGETHER].astype(np.int32), others[source[k : k + _TOGETHER]].astype(np.int32))
            for k in range(0, len(to), _TOGETHER)
        ]

    return _each(pairs, range(0, len(here), _TOGETHER))


def _extended(points, *, first):
    """Points [B, n, D] -> [B, n, D + 2], so that the product of a first and a second one is -|p - q|^2 / 2."""
    out = np.ones((*points.shape[:2], points.shape[2] + 2), points.dtype)
    out[..., :-2] = points
    np.einsum("bnd,bnd->bn", points, points, out=out[..., -1 if first else -2])
    out[..., -1 if first else -2] *= -0.5
    return out


def _boxes(points):
    """Parts points into boxes by halving the longest side; indices [B, n], short boxes filled with their last."""
    done, parts = [], [np.arange(len(points))]
    while parts:
        part = parts.pop()
        if len(part) <= _BOX:
            done.append(part)
            continue
        here = points[part]
        half = len(part) // 2
        order = np.argpartition(here[:, np.ptp(here, axis=0).argmax()], half)
        parts += [part[order[half:]], part[order[:half]]]
    most = max(map(len, done))
    return np.stack([np.pad(part, (0, most - len(part)), mode="edge") for part in done])


def _each(function, items):
    """Calls a function for each item, on all cores: NumPy lets go of Python's lock while it multiplies."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def _groups(features, detail):
    """Numbers the cells of the finest grid that leaves about `detail` groups in reach; [N], and their count."""
    N = len(features)
    rng = np.random.default_rng(0)
    some, others = (features[rng.integers(0, N, count)].astype(np.float64) for count in (256, 4096))
    near = sum((((one - others) ** 2).sum(1) < -2 * np.log(1e-4)).mean() for one in some) / len(some)
    most = int(detail / max(near, 1 / N))
    if most >= N:
        return np.arange(N), N
    fine, coarse = 0.0, float(np.ptp(features, axis=0).max()) + 1
    best = np.zeros(N, np.int64), 1
    for _ in range(14):
        side = (fine + coarse) / 2
        found = _cells(features, side)
        if found[1] > most:
            fine = side
        else:
            coarse, best = side, found
            if found[1] > 0.95 * most:
                break
    return best


def _cells(features, side):
    cells = np.floor((features - features.min(0)) / side).astype(np.int64)
    spans = cells.max(0) + 1
    if np.prod(spans.astype(float)) < 2**62:
        cells = np.ravel_multi_index(tuple(cells.T), tuple(spans))
    _, groups = np.unique(cells, axis=0, return_inverse=True)
    groups = groups.reshape(-1)
    return groups, int(groups.max()) + 1
