"""Places a chart's labels where they cover neither markers nor each other. Pixels, y down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# A plot's inner width and height on a desktop and on a phone, and the weight of each.
_SCREENS = ((960, 420, 1.0), (330, 400, 0.3))
_CHAR_PX, _LINE_PX = 7.2, 17
_STEPS = ((0, 1), (-1, 0.6), (1, 0.6), (0, -1), (-1, -0.6), (1, -0.6))
_DISTANCES_PX = (10, 24, 42, 64, 90)
# Where labels are placed together.
_MORE_STEPS = (*_STEPS, (1, 0), (-1, 0), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1))
_LABEL_WEIGHT = 6.0  # of covering a label, relative to a marker
_MORE_DISTANCES_PX = (10, 16, 24, 32, 42, 64, 90, 120)
_MORE_DISTANCE_COST = 16.0
_MOST_ROUNDS = 8
_OUTSIDE_COST = 50.0
_DISTANCE_COST = 6.0
# Overlap with labels and edges that nobody sees.
_TOLERATED = 1.0

_LINE_COLOUR = "rgba(128,128,128,0.75)"


def label_annotation(
    x: float, y: float, text: str, shift_px: tuple[float, float], diameter_px: float
) -> dict[str, Any]:
    """Plotly's annotation of a label with a thin line to its marker.

    x, y: the marker's middle in the axes' units, a logarithm on a logarithmic axis. shift_px: from
    there to the label, as a placer gives it. diameter_px: the marker's. text: escaped.
    """
    return {
        "x": x,
        "y": y,
        "text": text,
        "ax": shift_px[0],
        "ay": shift_px[1],
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 0.8,
        "arrowcolor": _LINE_COLOUR,
        "standoff": diameter_px / 2,
        "font": {"size": 12},
    }


class LabelPlacer:
    """Places one label after another among markers.

    spots: each marker's middle as fractions of the plot's width and height, shape (markers, 2);
    diameters_px: theirs. screens: inner width and height of the plot in pixels, and their weight.
    weights: how bad it is to cover each marker, shape (markers,) or one for all.
    """

    def __init__(
        self,
        spots: ArrayLike,
        diameters_px: ArrayLike,
        screens: Sequence[tuple[float, float, float]] = _SCREENS,
        weights: ArrayLike = 1.0,
    ):
        middles = np.asarray(spots, dtype=float).reshape(-1, 2)
        sides = np.asarray(diameters_px, dtype=float)[:, None] * (1, 1)
        self._screens, self._markers = screens, len(middles)
        self._weights = np.broadcast_to(np.asarray(weights, dtype=float), len(middles))
        self._steps: Sequence[tuple[float, float]] = _STEPS
        self._distances_px: Sequence[int] = _DISTANCES_PX
        self._label_weight, self._distance_cost = 1.0, _DISTANCE_COST
        self._taken = [_boxes(middles * np.array(screen[:2]), sides) for screen in screens]

    def place(self, spot: ArrayLike, diameter_px: float, characters: int) -> tuple[float, float]:
        """The label's shift from its marker in pixels; later labels avoid it.

        Of the candidates around the marker, the nearest that covers least on every screen.
        """
        return self._place(Label(spot, diameter_px, characters))

    def place_free(
        self, spot: ArrayLike, diameter_px: float, characters: int
    ) -> tuple[float, float] | None:
        """As `place`, or None where the label would cover another, or leave the plot."""
        label = Label(spot, diameter_px, characters)
        shifts, costs, clashes = self._candidates(label)
        if clashes.min() > _TOLERATED:
            return None
        return self._take(label, shifts[np.argmin(np.where(clashes > _TOLERATED, np.inf, costs))])

    def place_together(self, labels: Sequence["Label"]) -> list[tuple[float, float]]:
        """The shift of each label; each is placed anew after all others, until none moves."""
        self._steps, self._distances_px = _MORE_STEPS, _MORE_DISTANCES_PX
        self._label_weight, self._distance_cost = _LABEL_WEIGHT, _MORE_DISTANCE_COST
        shifts = [self._place(label) for label in labels]
        for _ in range(_MOST_ROUNDS):
            before = list(shifts)
            for i, label in enumerate(labels):
                # Labels follow the markers in their order, and the one placed last is at the end.
                first = self._markers
                self._taken = [np.delete(taken, first, axis=0) for taken in self._taken]
                shifts[i] = self._place(label)
            if shifts == before:
                break
        return shifts

    def _place(self, label: "Label") -> tuple[float, float]:
        shifts, costs, _ = self._candidates(label)
        return self._take(label, shifts[np.argmin(costs)])

    def _candidates(self, label: "Label") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shifts, shape (candidates, 2), the cost of each, and that of labels and edges alone."""
        size = _size(label)
        distances = np.repeat(self._distances_px, len(self._steps))
        reach = label.diameter_px / 2 + distances[:, None] + (size[0] / 2, size[1] / 2 - 4)
        shifts = np.tile(self._steps, (len(self._distances_px), 1)) * reach
        costs, clashes = self._distance_cost * distances, np.zeros(len(distances))
        for taken, screen in zip(self._taken, self._screens, strict=True):
            boxes = _boxes(np.asarray(label.spot) * np.array(screen[:2]) + shifts, size)
            labels = np.ones(len(taken) - self._markers)
            weights = np.concatenate([self._weights, self._label_weight * labels])
            costs = costs + _cost(boxes, taken, weights, screen)
            of_labels = np.concatenate([0 * self._weights, labels])
            clashes = clashes + _cost(boxes, taken, of_labels, screen)
        return shifts, costs, clashes

    def _take(self, label: "Label", shift: np.ndarray) -> tuple[float, float]:
        for i, screen in enumerate(self._screens):
            box = _boxes(np.asarray(label.spot) * np.array(screen[:2]) + shift[None], _size(label))
            self._taken[i] = np.concatenate([self._taken[i], box])
        return float(shift[0]), float(shift[1])


@dataclass(frozen=True)
class Label:
    """A label to place: its marker, and its size; characters: of its longest line."""

    spot: ArrayLike
    diameter_px: float
    characters: int
    lines: int = 1


def _size(label: Label) -> np.ndarray:
    """Width and height in pixels."""
    return np.array((label.characters * _CHAR_PX, label.lines * _LINE_PX))


def _cost(
    boxes: np.ndarray, taken: np.ndarray, weights: np.ndarray, screen: tuple[float, float, float]
) -> np.ndarray:
    """Weighted area that each box covers, plus the cost of what is outside, shape (boxes,)."""
    width, height, weight = screen
    beyond = np.concatenate([-boxes[:, :2], boxes[:, 2:] - (width, height)], axis=1)
    covered = np.minimum(boxes[:, None, 2:], taken[:, 2:])
    covered -= np.maximum(boxes[:, None, :2], taken[:, :2])
    overlap = (covered.clip(0).prod(axis=2) * weights).sum(axis=1)
    outside = _OUTSIDE_COST * beyond.clip(0).sum(axis=1)
    cost: np.ndarray = weight * (outside + overlap)
    return cost


def _boxes(middles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of boxes around their middles, shape (boxes, 4)."""
    return np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)
