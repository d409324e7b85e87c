"""What came back against what was learned, a point a setting: the picture that a guard is chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

from cxrguard.audit.charts import RC, WIDE, canvas, dress, line_style, plain, svg

Row = dict[str, Any]


def not_dominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Of (to be high, to be low) points those that no other is at least as good as in both and better in one, by the first figure."""

    def beaten(i: int) -> bool:
        x, y = points[i]
        return any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)

    return sorted((i for i in range(len(points)) if not beaten(i)), key=lambda i: points[i])


def trade_off_chart(compared: Sequence[Row], size: tuple[float, float] = WIDE) -> str | None:
    """Extraction (with its interval) over the learning kept, or the held-out loss where that is not known.

    A line joins the settings that no other beats in both.

    Args:
        compared: of :func:`cxrguard.audit.compared.compare`.
        size: Width and height in inches.

    Returns:
        A data URI, or None with fewer than two settings that have both figures.

    """
    label, placed = _placed(compared)
    rows = [(row, x) for row, x in zip(compared, placed, strict=True) if x is not None and row["extraction"]["rate"] is not None]
    if len(rows) < 2:
        return None
    points = [(x, float(row["extraction"]["rate"])) for row, x in rows]
    with mpl.rc_context(RC):
        figure, axes = canvas(size)
        best = [points[i] for i in not_dominated(points)]
        axes.plot([x for x, _ in best], [y for _, y in best], "-", color="#9aa3ad", linewidth=1.2, zorder=1, label="best trade-off")
        for index, ((row, _), (x, y)) in enumerate(zip(rows, points, strict=True)):
            looks = {**line_style(index), "linestyle": "none", "markersize": 9}
            axes.plot([x], [y], label=plain(row["label"]), zorder=3, **looks)
            axes.plot([x, x], row["extraction"]["ci"], "-", color=looks["color"], linewidth=1.4, zorder=2)
        axes.set_ylim(-0.03, 1.03)
        if label.startswith("learning"):  # from nothing learned, or a difference in the third place would fill the axis
            axes.set_xlim(min(0.0, *(x for x, _ in points)) - 0.03, max(1.0, *(x for x, _ in points)) + 0.05)
        dress(axes, "canaries extracted", size == WIDE, label)
        return svg(figure)


def _placed(compared: Sequence[Row]) -> tuple[str, list[float | None]]:
    """What the settings are placed by, more being better; the loss itself where the unguarded run has not learned anything."""
    kept = [row["learning_kept"]["mean"] for row in compared]
    if any(value is not None for value in kept):
        return "learning kept (1: as low a held-out loss as without a guard)", kept
    losses = [row["heldout_loss"]["mean"] for row in compared]
    return "held-out loss, negative: more to the right is better", [None if loss is None else -loss for loss in losses]
