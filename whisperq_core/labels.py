"""Where a chart's labels go, so that they cover neither markers nor each other. Pixels, y down."""

from collections.abc import Sequence

# A plot's inner width and height on a desktop and on a phone, and how much the place counts there.
_SCREENS = ((960, 420, 1.0), (330, 400, 0.3))
_CHAR_PX, _LINE_PX = 7.2, 17
_STEPS = ((0, 1), (-1, 0.6), (1, 0.6), (0, -1), (-1, -0.6), (1, -0.6))
_DISTANCES_PX = (10, 24, 42, 64, 90)
_OUTSIDE_COST = 50.0
_DISTANCE_COST = 6.0

# Left, top, right, bottom.
Box = tuple[float, float, float, float]


class Placer:
    """Places one label after another among markers.

    spots: each marker's middle as fractions of the plot's width and height, shape (markers, 2);
    diameters_px: theirs.
    """

    def __init__(self, spots: Sequence[Sequence[float]], diameters_px: Sequence[float]):
        self._taken = [
            [
                _box(x * width, y * height, diameter, diameter)
                for (x, y), diameter in zip(spots, diameters_px, strict=True)
            ]
            for width, height, _ in _SCREENS
        ]

    def place(
        self, spot: Sequence[float], diameter_px: float, characters: int
    ) -> tuple[float, float]:
        """The label's shift from its marker in pixels; it is taken into account from now on.

        The best of the places around it: near, and covering little on every screen.
        """
        size = characters * _CHAR_PX, _LINE_PX
        best_cost, best_shift = float("inf"), (0.0, 0.0)
        for distance in _DISTANCES_PX:
            reach = diameter_px / 2 + distance
            for dx, dy in _STEPS:
                shift = dx * (reach + size[0] / 2), dy * (reach + size[1] / 2 - 4)
                cost = self._cost(spot, shift, size) + _DISTANCE_COST * distance
                if cost < best_cost:
                    best_cost, best_shift = cost, shift
        for taken, box in zip(self._taken, _boxes(spot, best_shift, size), strict=True):
            taken.append(box)
        return best_shift

    def _cost(self, spot, shift, size) -> float:
        cost = 0.0
        boxes = _boxes(spot, shift, size)
        for taken, box, (width, height, weight) in zip(self._taken, boxes, _SCREENS, strict=True):
            beyond = (-box[0], -box[1], box[2] - width, box[3] - height)
            cost += weight * _OUTSIDE_COST * sum(max(0.0, pixels) for pixels in beyond)
            cost += weight * sum(_overlap(box, other) for other in taken)
        return cost


def _boxes(spot, shift, size) -> list[Box]:
    """The label's box on each screen."""
    return [_box(spot[0] * w + shift[0], spot[1] * h + shift[1], *size) for w, h, _ in _SCREENS]


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    up = min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0
