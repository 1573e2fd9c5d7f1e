"""Where a chart's labels go, so that they cover neither markers nor each other. Pixels, y down."""

from collections.abc import Sequence

# What labels are placed by: a plot's inner width and height on a usual screen.
INNER_PX = (960, 420)

# Left, top, right, bottom.
Box = tuple[float, float, float, float]


def box_around(x: float, y: float, width: float, height: float) -> Box:
    """The box of that width and height with its middle at (x, y)."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(a: Box, b: Box) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    up = min(a[3], b[3]) - max(a[1], b[1])
    return across * up if across > 0 and up > 0 else 0.0


def free_place(
    point: Sequence[float], diameter: float, size: tuple[float, float], taken: list[Box]
) -> tuple[Box, tuple[float, float]]:
    """The nearest free place for a label of `size` around its point.

    taken: boxes of markers and labels that are there. Returns the label's box and its shift from
    the point, in pixels; the place that covers least where none is free.
    """
    best = None
    for distance in (10, 24, 42, 64, 90):
        reach = diameter / 2 + distance
        for dx, dy in ((0, 1), (-1, 0.6), (1, 0.6), (0, -1), (-1, -0.6), (1, -0.6)):
            shift = dx * (reach + size[0] / 2), dy * (reach + size[1] / 2 - 4)
            box = box_around(point[0] + shift[0], point[1] + shift[1], *size)
            outside = sum(max(0.0, o) for o in (-box[0], box[2] - INNER_PX[0], -box[1])) + max(
                0.0, box[3] - INNER_PX[1]
            )
            cost = sum(_overlap(box, other) for other in taken) + 50 * outside
            if best is None or cost < best[0]:
                best = cost, box, shift
        if best[0] == 0:
            break
    return best[1], best[2]
