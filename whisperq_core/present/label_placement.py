"""Places a chart's labels where they cover neither markers nor each other. Pixels, y down."""

import numpy as np
from numpy.typing import ArrayLike

# A plot's inner width and height on a desktop and on a phone, and the weight of each.
_SCREENS = ((960, 420, 1.0), (330, 400, 0.3))
_CHAR_PX, _LINE_PX = 7.2, 17
_STEPS = ((0, 1), (-1, 0.6), (1, 0.6), (0, -1), (-1, -0.6), (1, -0.6))
_DISTANCES_PX = (10, 24, 42, 64, 90)
_OUTSIDE_COST = 50.0
_DISTANCE_COST = 6.0


class LabelPlacer:
    """Places one label after another among markers.

    spots: each marker's middle as fractions of the plot's width and height, shape (markers, 2);
    diameters_px: theirs.
    """

    def __init__(self, spots: ArrayLike, diameters_px: ArrayLike):
        middles = np.asarray(spots, dtype=float).reshape(-1, 2)
        sides = np.asarray(diameters_px, dtype=float)[:, None] * (1, 1)
        self._taken = [_boxes(middles * np.array(screen[:2]), sides) for screen in _SCREENS]

    def place(self, spot: ArrayLike, diameter_px: float, characters: int) -> tuple[float, float]:
        """The label's shift from its marker in pixels; later labels avoid it.

        Of the candidates around the marker, the nearest that covers least on every screen.
        """
        size = np.array((characters * _CHAR_PX, _LINE_PX))
        distances = np.repeat(_DISTANCES_PX, len(_STEPS))
        reach = diameter_px / 2 + distances[:, None] + (size[0] / 2, size[1] / 2 - 4)
        shifts = np.tile(_STEPS, (len(_DISTANCES_PX), 1)) * reach
        costs = _DISTANCE_COST * distances
        for taken, screen in zip(self._taken, _SCREENS, strict=True):
            costs = costs + _cost(
                _boxes(np.asarray(spot) * np.array(screen[:2]) + shifts, size), taken, screen
            )
        best = int(np.argmin(costs))
        for i, screen in enumerate(_SCREENS):
            box = _boxes(np.asarray(spot) * np.array(screen[:2]) + shifts[[best]], size)
            self._taken[i] = np.concatenate([self._taken[i], box])
        return float(shifts[best, 0]), float(shifts[best, 1])


def _cost(boxes: np.ndarray, taken: np.ndarray, screen: tuple[float, float, float]) -> np.ndarray:
    """Area that each box covers, plus the cost of lying outside the screen, shape (boxes,)."""
    width, height, weight = screen
    beyond = np.concatenate([-boxes[:, :2], boxes[:, 2:] - (width, height)], axis=1)
    covered = np.minimum(boxes[:, None, 2:], taken[:, 2:])
    covered -= np.maximum(boxes[:, None, :2], taken[:, :2])
    overlap = covered.clip(0).prod(axis=2).sum(axis=1)
    cost: np.ndarray = weight * (_OUTSIDE_COST * beyond.clip(0).sum(axis=1) + overlap)
    return cost


def _boxes(middles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of boxes around their middles, shape (boxes, 4)."""
    return np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)
