"""What came back against what was learned, a point a setting: the picture that a guard is chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

from cxrguard.audit.charts import RC, WIDE, canvas, dress, plain, style_of, svg

Row = dict[str, Any]


def not_dominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """Of (to be high, to be low) points those that no other is at least as good as in both and better in one, by the first figure."""

    def beaten(i: int) -> bool:
        x, y = points[i]
        return any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)

    return sorted((i for i in range(len(points)) if not beaten(i)), key=lambda i: points[i])


def trade_off_chart(compared: Sequence[Row], size: tuple[float, float] = WIDE) -> str | None:
    """Extraction (with its interval) over the learning kept; a line joins the settings that no other beats in both.

    Args:
        compared: of :func:`cxrguard.audit.compared.compare`.
        size: Width and height in inches.

    Returns:
        A data URI, or None with fewer than two settings that have both figures.

    """
    rows = [row for row in compared if row["learning_kept"]["mean"] is not None and row["extraction"]["rate"] is not None]
    if len(rows) < 2:
        return None
    points = [(float(row["learning_kept"]["mean"]), float(row["extraction"]["rate"])) for row in rows]
    with mpl.rc_context(RC):
        figure, axes = canvas(size)
        best = [points[i] for i in not_dominated(points)]
        axes.plot([x for x, _ in best], [y for _, y in best], "-", color="#9aa3ad", linewidth=1.2, zorder=1, label="best trade-off")
        for index, (row, (x, y)) in enumerate(zip(rows, points, strict=True)):
            looks = {**style_of(index), "linestyle": "none", "markersize": 9}
            axes.plot([x], [y], label=plain(row["label"]), zorder=3, **looks)
            axes.plot([x, x], row["extraction"]["ci"], "-", color=looks["color"], linewidth=1.4, zorder=2)
        axes.set_ylim(-0.03, 1.03)
        dress(axes, "canaries extracted", size == WIDE, "learning kept (1: as low a held-out loss as without a guard)")
        return svg(figure)
