"""The report's charts, as SVG in data URIs: no file beside the page, no network, no script."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # the object-oriented way: no pyplot, no global backend, safe beside a training run

Point = dict[str, Any]

# Line style and marker tell the lines apart in black and white; the colours are Okabe and Ito's.
STYLES: list[tuple[str, Any, str]] = [
    ("#0072B2", "--", "o"),
    ("#D55E00", "-.", "s"),
    ("#009E73", ":", "^"),
    ("#CC79A7", (0, (5, 1, 1, 1, 1, 1)), "D"),
    ("#E69F00", (0, (3, 1)), "v"),
    ("#56B4E9", (0, (1, 1)), "P"),
]
RC: Any = {"svg.hashsalt": "cxrguard", "svg.fonttype": "path", "font.size": 10.0, "axes.edgecolor": "#8a94a0", "text.color": "#1b2530"}
UNMEMORIZED = 1.44  # bits of exposure that a canary has which was not memorized, in the mean
MAX_LABEL = 30  # characters that fit beside the axes
WIDE, NARROW = (9.2, 3.9), (4.4, 4.6)  # inches, for a desk and for a phone


def _numbers(points: Sequence[Point], key: str) -> tuple[list[float], list[float]]:
    """Steps and values where the value is known; a gap is skipped, never drawn as 0."""
    known = [(float(point["step"]), float(point[key])) for point in points if point.get(key) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _detector_numbers(points: Sequence[Point], name: str) -> tuple[list[float], list[float]]:
    flat = [{"step": point["step"], "auc": ((point.get("detectors") or {}).get(name) or {}).get("auc")} for point in points]
    return _numbers(flat, "auc")


def line_style(index: int) -> dict[str, Any]:
    """The ``index``-th line's looks; from the seventh on its markers are hollow, so that twelve can be told apart in grey."""
    color, style, marker = STYLES[index % len(STYLES)]
    hollow = index // len(STYLES) % 2 == 1
    fill = "white" if hollow else color
    return {"color": color, "linestyle": style, "marker": marker, "markersize": 5, "markerfacecolor": fill, "linewidth": 1.5}


def dress(axes: Axes, ylabel: str, wide: bool, xlabel: str = "training step") -> None:
    """Labels, grid and legend, as all charts have them."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    if not axes.get_legend_handles_labels()[0]:
        return
    if wide:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, handlelength=3.4, fontsize=9)
    else:
        axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.16), frameon=False, handlelength=3.4, fontsize=9)


def canvas(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure whose axes lie alike in every chart of that size, so that charts one above the other line up."""
    figure = Figure(figsize=size)
    axes = figure.subplots()
    if size == WIDE:
        figure.subplots_adjust(left=0.075, right=0.69, bottom=0.13, top=0.97)
    return figure, axes


def svg(figure: Figure) -> str:
    """A figure as a data URI, without date, creator or links, so that equal figures give equal bytes."""
    buffer = io.BytesIO()
    bare = {"Date": None, "Creator": None, "Format": None, "Type": None}
    trim = None if tuple(figure.get_size_inches()) == WIDE else "tight"
    figure.savefig(buffer, format="svg", bbox_inches=trim, pad_inches=0.04, metadata=bare)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def plain(name: str, longest: int = MAX_LABEL) -> str:
    """A label that matplotlib takes as it is: ``$`` starts mathematics there and may fail to parse."""
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("$", r"\$").lstrip("_") or "?"


def _draw_outcomes(axes: Axes, curves: Sequence[Point]) -> int:
    """Extraction and spillover as solid lines; returns the number of points drawn."""
    drawn = 0
    for label, key, color, width, marker in (
        ("canaries extracted", "extraction_rate", "#111111", 2.6, "x"),
        ("spillover", "spillover_rate", "#9aa3ad", 1.8, "|"),
    ):
        steps, values = _numbers(curves, key)
        drawn += len(steps)
        if steps:
            axes.plot(steps, values, "-", color=color, linewidth=width, marker=marker, label=label)
    return drawn


def _draw_detectors(axes: Axes, curves: Sequence[Point]) -> int:
    """One line a detector, each of its own pattern; returns the number of points drawn."""
    drawn = 0
    for index, name in enumerate(dict.fromkeys(name for point in curves for name in point.get("detectors") or {})):
        steps, values = _detector_numbers(curves, name)
        drawn += len(steps)
        if steps:
            axes.plot(steps, values, label=plain(name), **line_style(index))
    return drawn


def detector_chart(curves: Sequence[Point], size: tuple[float, float] = WIDE) -> str | None:
    """AUC of every detector over the steps, over the outcome itself (extraction and spillover).

    Args:
        curves: ``curves`` of the audit.
        size: Width and height in inches.

    Returns:
        A data URI, or None if there is nothing to draw.

    """
    with mpl.rc_context(RC):
        figure, axes = canvas(size)
        if not _draw_outcomes(axes, curves) + _draw_detectors(axes, curves):
            return None
        axes.axhline(0.5, color="#8a94a0", linewidth=0.9, linestyle=(0, (2, 3)))
        axes.annotate("chance (AUC)", (1, 0.5), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", fontsize=8, color="#6b7682")  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        dress(axes, "AUC of detectors; share of prompts", size == WIDE)
        return svg(figure)


def loss_chart(curves: Sequence[Point], base: float | None = None, size: tuple[float, float] = WIDE) -> str | None:
    """Training and held-out loss over the steps, with the base model's held-out loss as a line.

    Returns:
        A data URI, or None if there is nothing to draw.

    """
    with mpl.rc_context(RC):
        figure, axes = canvas(size)
        drawn = 0
        for label, key, (color, style, marker) in (
            ("training", "train_loss", ("#0072B2", "-", "o")),
            ("held out", "heldout_loss", ("#D55E00", "--", "s")),
        ):
            steps, values = _numbers(curves, key)
            drawn += len(steps)
            if steps:
                axes.plot(steps, values, color=color, linestyle=style, marker=marker, markersize=5, linewidth=1.7, label=label)
        if not drawn:
            return None
        if base is not None:
            axes.axhline(base, color="#6b7682", linewidth=1.1, linestyle=":", label="held out, base model")
        dress(axes, "denoising loss", size == WIDE)
        return svg(figure)


def _exposures(entry: dict[str, Any]) -> list[Point]:
    """The levels of a detector whose exposure is known."""
    return [row for row in entry.get("by_repeats") or [] if row.get("exposure") is not None and row.get("repeats")]


def _draw_exposure(axes: Axes, rows: Sequence[Point], name: str, index: int, beside: float) -> None:
    places = [row["repeats"] * beside for row in rows]
    axes.plot(places, [row["exposure"] for row in rows], label=plain(name), **line_style(index))
    for place, row in zip(places, rows, strict=True):
        if row.get("exposure_ci"):
            axes.plot([place] * 2, row["exposure_ci"], "-", color=line_style(index)["color"], linewidth=1.0, alpha=0.8)


def exposure_chart(detectors: dict[str, dict[str, Any]], size: tuple[float, float] = WIDE) -> str | None:
    """Mean exposure of the canaries by how often an epoch showed them, a line a detector, intervals as bars.

    Args:
        detectors: ``detectors`` of the audit, with ``by_repeats``.
        size: Width and height in inches.

    Returns:
        A data URI, or None with fewer than two repeat levels.

    """
    rows = {name: found for name, entry in detectors.items() if (found := _exposures(entry))}
    levels = sorted({row["repeats"] for found in rows.values() for row in found})
    if len(levels) < 2:
        return None
    with mpl.rc_context(RC):
        figure, axes = canvas(size)
        # side by side, or the intervals of several detectors would hide each other
        gap = 0.3 * min(math.log2(high / low) for low, high in pairwise(levels))
        for index, (name, found) in enumerate(rows.items()):
            _draw_exposure(axes, found, name, index, 2 ** (gap * (index / max(len(rows) - 1, 1) - 0.5)))
        axes.axhline(UNMEMORIZED, color="#6b7682", linewidth=1.1, linestyle=(0, (2, 3)), label="not memorized: 1.44")
        axes.set_xscale("log", base=2)
        axes.set_xticks(levels, [str(level) for level in levels])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        dress(axes, "mean exposure, bits", size == WIDE, "times an epoch shows the canary")
        return svg(figure)
