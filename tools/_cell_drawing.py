"""Draws fields of view full of cells, as `make_cells.py` writes them: where they lie, the light, the camera.

NumPy and OpenCV only. Every random number comes from the generator that is handed in.
"""

import numpy as np

from kerasseg._opencv import cv2


def draw_field(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws one field of view.

    Returns:
        image: uint8 [size, size].
        instances: uint16 [size, size], 0 background, 1 to N the cells. Neighbours share borders without a gap.
    """
    instances, level, cells = _place(rng, size)
    return _photograph(rng, _optics(rng, instances, level, cells)), instances


# --- where the cells lie ---------------------------------------------------------------------------------------------


def _place(rng, size):
    """Returns instances uint16, level float32 (0 at a cell's centre, 1 at its rim) and the cells (y, x, radius)."""
    cells = _centres(rng, size)
    level = np.full((size, size), 1, np.float32)
    instances = np.zeros((size, size), np.uint16)
    for number, (y, x, radius) in enumerate(cells, start=1):
        box = _window(y, x, 1.8 * radius, level.shape)
        own = _outline(rng, box, y, x, radius)
        # Where two outlines overlap, the pixel goes to the cell that it lies deeper in: a border like a soap film's.
        closer = own < level[box]
        level[box][closer] = own[closer]
        instances[box][closer] = number
    return _without_crumbs(instances, level), level, cells


def _centres(rng, size):
    """Places cells one by one, three in four of them against an earlier one; returns a list of (y, x, radius)."""
    typical = min(rng.uniform(18, 28), size / 6)
    wanted = rng.uniform(0.35, 0.8) * size**2
    cells, covered = [], 0.0
    for _ in range(int(600 * (size / 256) ** 2) + 100):
        if covered > wanted:
            break
        radius = typical * float(np.clip(rng.lognormal(0, 0.22), 0.6, 1.6))
        if cells and rng.random() < 0.75:
            y0, x0, other = cells[rng.integers(len(cells))]
            angle, distance = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(0.82, 1.0)
            y, x = y0 + distance * np.sin(angle), x0 + distance * np.cos(angle)
        else:
            y, x = rng.uniform(-0.03 * size, 1.03 * size, 2)
        inside = -radius / 2 < min(y, x) and max(y, x) < size + radius / 2
        if inside and all(np.hypot(y - v, x - u) > 0.8 * (radius + r) for v, u, r in cells):
            cells.append((float(y), float(x), radius))
            covered += np.pi * radius**2
    return cells


def _window(y, x, reach, shape):
    """Returns the slices of the pixels at most `reach` from (y, x) along either axis; they may be empty."""
    return tuple(
        slice(int(np.clip(c - reach, 0, side)), int(np.clip(c + reach + 1, 0, side)))
        for c, side in zip((y, x), shape, strict=True)
    )


def _outline(rng, box, y, x, radius):
    """Returns for each pixel of `box` its distance from the centre ÷ that of the rim in the same direction."""
    rows, columns = np.ogrid[box]
    stretch, turn = rng.uniform(1, 1.25), rng.uniform(0, np.pi)
    v = (np.cos(turn) * (rows - y) - np.sin(turn) * (columns - x)) * stretch
    u = (np.sin(turn) * (rows - y) + np.cos(turn) * (columns - x)) / stretch
    angle, rim = np.arctan2(v, u), radius
    for waves in range(2, 7):
        rim = rim + radius * rng.normal(0, 0.14 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return (np.hypot(v, u) / rim).astype(np.float32)


def _without_crumbs(instances, level, smallest=60):
    """Keeps the largest piece of each cell and numbers the cells 1 to N again; `level` becomes 1 where a piece went."""
    kept = np.zeros_like(instances)
    number = 0
    for cell in np.unique(instances[instances > 0]):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats((instances == cell).astype(np.uint8), connectivity=4)
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        if stats[largest, cv2.CC_STAT_AREA] >= smallest:
            number += 1
            kept[pieces == largest] = number
    level[kept == 0] = 1
    return kept


# --- what the light does ---------------------------------------------------------------------------------------------


def _optics(rng, instances, level, cells):
    """Returns float32 [H, W], about 0 in the background: relief, texture, granules, nuclei, membranes and halos."""
    shape = instances.shape
    inside = (instances > 0).astype(np.float32)
    to_border = cv2.distanceTransform((~_borders(instances)).astype(np.uint8), cv2.DIST_L2, 5)
    # The background has grain and cloud of its own, weaker, so that texture alone gives no cell away either.
    scene = 0.35 * _grain(rng, shape, 1.1, 2.5) + 0.5 * _grain(rng, shape, 6, 14)

    each = 1 + int(instances.max())  # one draw per cell, looked up by its number; entry 0 is the background's
    brightness, roughness, cloudiness = rng.normal(0, 0.55, each), rng.uniform(0.5, 1.5, each), rng.uniform(0, 1, each)
    fine, coarse = _grain(rng, shape, 0.9, 2.2), _grain(rng, shape, 2.5, 6)
    scene += inside * (brightness[instances] + roughness[instances] * fine + 0.6 * cloudiness[instances] * coarse)

    height = cv2.GaussianBlur(np.sqrt(1 - np.minimum(level, 1) ** 2), (0, 0), 1.5)
    light = rng.uniform(0, 2 * np.pi)
    scene += 3 * (np.sin(light) * cv2.Sobel(height, -1, 0, 1) + np.cos(light) * cv2.Sobel(height, -1, 1, 0))

    for y, x, radius in cells:
        _nucleus(rng, scene, instances, y, x, radius)
    _granules(rng, scene, inside * (to_border > 2.5), count=int(inside.sum() / 70))

    scene -= 2.4 * np.exp(-0.5 * (to_border / 1.1) ** 2)  # the membrane, dark
    scene += 1.5 * np.exp(-0.5 * ((to_border - 3.2) / 1.3) ** 2) * (1 - inside)  # and the bright halo around it
    return scene.astype(np.float32)


def _borders(instances):
    """Returns bool [H, W]: cell pixels with one of their four neighbours of another number."""
    padded = np.pad(instances, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (instances > 0) & np.any([n != instances for n in neighbours], axis=0)


def _grain(rng, shape, fine, coarse):
    """Returns noise of unit variance that holds only structures between `fine` and `coarse` pixels."""
    noise = rng.standard_normal(shape, np.float32)
    band = cv2.GaussianBlur(noise, (0, 0), fine) - cv2.GaussianBlur(noise, (0, 0), coarse)
    return band / band.std()


def _nucleus(rng, scene, instances, y, x, radius):
    """Smooths the middle of a cell, lifts it a little, rings it, and puts one or two dark nucleoli in it."""
    y, x = (y, x) + rng.normal(0, 0.12 * radius, 2)
    size = radius * rng.uniform(0.36, 0.5)
    box = _window(y, x, 2 * size, scene.shape)
    if not (0 <= y < scene.shape[0] and 0 <= x < scene.shape[1]) or not instances[int(y), int(x)]:
        return
    own = instances[box] == instances[int(y), int(x)]
    rows, columns = np.ogrid[box]
    near = np.hypot(rows - y, (columns - x) * rng.uniform(0.8, 1.25)) / size
    body = own * np.clip(3 * (1 - near), 0, 1)
    scene[box] *= 1 - 0.6 * body
    scene[box] += rng.uniform(-0.3, 1.2) * body - 1.3 * own * np.exp(-0.5 * ((near - 1) * size / 1.1) ** 2)
    for _ in range(rng.integers(1, 3)):
        v, u = (y, x) + rng.normal(0, 0.35 * size, 2)
        scene[box] -= 2.2 * own * np.exp(-0.5 * ((rows - v) ** 2 + (columns - u) ** 2) / (0.18 * size) ** 2)


def _granules(rng, scene, where, count):
    """Sprinkles `count` grains into `where`: dark ones with a bright middle, and bright ones."""
    rows, columns = np.nonzero(where)
    for chosen in rng.integers(max(len(rows), 1), size=count):
        y, x, radius, strength = rows[chosen], columns[chosen], rng.uniform(0.7, 1.7), rng.choice([-2.4, -1.8, 1.6])
        box = _window(y, x, 5, scene.shape)
        v, u = np.ogrid[box]
        squared = ((v - y) ** 2 + (u - x) ** 2) / radius**2
        scene[box] += strength * (np.exp(-0.5 * squared) - 0.5 * np.exp(-1.5 * squared)) * where[box]


# --- what the camera makes of it -------------------------------------------------------------------------------------


def _photograph(rng, scene):
    """Returns uint8 [H, W]: the scene through a lens with dust and vignetting, slightly out of focus, with noise."""
    shape = scene.shape
    scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.5, 0.9)) + _dust(rng, shape)
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    tilt_y, tilt_x = rng.normal(0, 0.12, 2)
    centre_y, centre_x = rng.normal(0, 0.3, 2)
    vignette = rng.uniform(0.05, 0.14) * ((rows - centre_y) ** 2 + (columns - centre_x) ** 2)
    light = 1 + tilt_y * rows + tilt_x * columns - vignette
    exposure, contrast = rng.uniform(105, 145), rng.uniform(11, 17)
    photons = np.clip(light * (exposure + contrast * scene), 0, None)
    noisy = photons + rng.normal(0, 1, shape) * np.sqrt(photons) * rng.uniform(0.2, 0.4) + rng.normal(0, 1.5, shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _dust(rng, shape):
    """Returns blurred specks and the faint rings of dust that lies outside the focal plane."""
    dust = np.zeros(shape, np.float32)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for _ in range(rng.poisson(4)):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        distance, radius = np.hypot(rows - y, columns - x), rng.uniform(2, 9)
        if rng.random() < 0.5:
            dust += rng.uniform(-1.5, 1) * np.exp(-0.5 * (distance / radius) ** 2)
        else:
            dust += rng.uniform(-1, 1) * np.exp(-0.5 * ((distance - radius) / 1.2) ** 2)
    return dust
