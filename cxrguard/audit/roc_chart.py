"""The ROC curves of a run's detectors, a small panel each: two curves with bands in one would hide each other."""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrguard.audit.charts import RC, WIDE, plain, svg

COLUMNS = {True: 4, False: 2}  # on a wide screen, on a narrow one
SIDE = {True: 2.3, False: 2.2}  # inches a panel


def roc_chart(detectors: dict[str, dict[str, Any]], size: tuple[float, float] = WIDE) -> str | None:
    """TPR over FPR with its 95 % band, in the audit's order of detectors.

    Args:
        detectors: ``detectors`` of the audit.
        size: which screen it is for; the height follows from the number of detectors.

    Returns:
        A data URI, or None if no detector has a curve.

    """
    curves = {name: entry for name, entry in detectors.items() if entry.get("roc")}
    if not curves:
        return None
    wide = size == WIDE
    columns, side = min(COLUMNS[wide], max(len(curves), 2)), SIDE[wide]
    rows = math.ceil(len(curves) / columns)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(columns * side, rows * (side + 0.35)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (name, entry) in zip(panels, curves.items(), strict=False):
            _draw(axes, name, entry)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        return svg(figure)


def _draw(axes: Axes, name: str, entry: dict[str, Any]) -> None:
    roc, auc = entry["roc"], entry.get("auc")
    axes.plot([0, 1], [0, 1], linestyle=(0, (2, 3)), color="#6b7682", linewidth=0.9)
    if roc.get("low") and roc.get("high"):
        axes.fill_between(roc["fpr"], roc["low"], roc["high"], color="#c9d3dd", linewidth=0.6, edgecolor="#8a94a0")
    axes.plot(roc["fpr"], roc["tpr"], color="#111111", linewidth=1.6)
    axes.set_title(plain(name, 24) + ("" if auc is None else f"\nAUC {auc:.2f}"), fontsize=8.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("false positive rate", fontsize=8)
    axes.set_ylabel("true positive rate", fontsize=8)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
