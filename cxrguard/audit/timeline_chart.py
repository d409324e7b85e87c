"""What the guard did, over the steps: shares held back as lines above, single actions as marks below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrguard.audit.actions import events, is_held_back
from cxrguard.audit.charts import RC, STYLES, WIDE, line_style, plain, svg

MOST_LINES = 6


def timeline_chart(
    actions: Sequence[Any], curves: Sequence[dict[str, Any]], steps: float, size: tuple[float, float] = WIDE
) -> str | None:
    """The actions beside the canaries that came back.

    Args:
        actions: ``actions`` of the audit; what is none (has no step) is left out.
        curves: ``curves`` of the audit.
        steps: of the whole run.
        size: Width in inches; the height follows from what there is to draw.

    Returns:
        A data URI, or None without a drawable action.

    """
    held: dict[str, list[tuple[float, float]]] = {}
    for action in filter(is_held_back, actions):
        held.setdefault(str(action["by"]), []).append((float(action["step"]), float(action["share"])))
    single = [(str(a["action"]), float(a["step"])) for a in events(actions) if _has_a_step(a)]
    if not held and not single:
        return None
    kinds = list(dict.fromkeys(kind for kind, _ in single))
    with mpl.rc_context(RC):
        below = max(0.35 * len(kinds), 0.01)
        figure = Figure(figsize=(size[0], 2.6 + below + 0.5), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, below])
        _draw_shares(upper, held, curves, wide=size == WIDE)
        _draw_events(lower, single, kinds)
        (lower if kinds else upper).set_xlabel("training step")
        lower.set_visible(bool(kinds))
        upper.tick_params(labelbottom=not kinds)
        upper.set_xlim(-0.02 * steps, 1.02 * max(steps, 1))
        return svg(figure)


def _has_a_step(action: Any) -> bool:
    return isinstance(action, dict) and "action" in action and isinstance(action.get("step"), (int, float))


def _draw_shares(axes: Axes, held: dict[str, list[tuple[float, float]]], curves: Sequence[dict[str, Any]], wide: bool) -> None:
    known = [(p["step"], p["extraction_rate"]) for p in curves if p.get("extraction_rate") is not None]
    if known:
        axes.plot(*zip(*known, strict=True), "-x", color="#111111", linewidth=2.2, label="canaries extracted")
    for index, (name, points) in enumerate(list(held.items())[:MOST_LINES]):
        axes.plot(*zip(*points, strict=True), label=f"held back by {plain(name)}", **line_style(index))
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share")
    axes.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)} if wide else {"loc": "upper left", "fontsize": 8}
        axes.legend(frameon=not wide, handlelength=3.4, **{"fontsize": 9, **place})


def _draw_events(axes: Axes, single: Sequence[tuple[str, float]], kinds: Sequence[str]) -> None:
    for row, kind in enumerate(kinds):
        marker = STYLES[row % len(STYLES)][2]
        axes.plot([step for of, step in single if of == kind], [row] * sum(of == kind for of, _ in single), marker, color="#111111", ms=7)
    axes.set_yticks(range(len(kinds)), [plain(kind, 16) for kind in kinds])
    axes.set_ylim(max(len(kinds), 1) - 0.5, -0.5)
    axes.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
