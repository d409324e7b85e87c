"""``report.html``: one self-contained page from ``audit.json``, for the board. It shows images, and prompts only where the run was to."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from cxrguard.audit.actions import events, held_back
from cxrguard.audit.charts import NARROW, WIDE, detector_chart, exposure_chart, loss_chart
from cxrguard.audit.record import PROMPTS, Audit, lookup, null_reason, read_audit, replication_note
from cxrguard.audit.roc_chart import roc_chart
from cxrguard.audit.timeline_chart import timeline_chart
from cxrguard.files import read_json, write_private

DASH = "–"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
MAX_IMAGE_BYTES = 2_000_000
GROUPS = (("canaries", "Canaries"), ("members", "Ordinary members"), ("controls", "Controls"))
SPACES = (("pixels", "pixels"), ("latents", "latents"))
MARKER_GROUPS = (("canaries", "Canaries"), ("controls", "Controls"), ("members", "Ordinary members"))


def format_number(value: Any, kind: str = "auto") -> str:
    """A figure as the report prints it.

    Args:
        value: A number (or anything, for ``auto``).
        kind: ``pct`` (one decimal), ``int``, ``f2``, ``f3``, ``f4``, ``seconds`` or ``auto``.

    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if kind == "pct":
        return f"{100 * value:.1f}\u00a0%"
    if kind == "seconds":
        return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
    if kind in ("f2", "f3", "f4"):
        return f"{value:.{kind[1]}f}"
    if kind == "int" or isinstance(value, int):
        return f"{value:,.0f}".replace(",", "\u202f")  # a thin no-break space
    return f"{value:.4g}"


def _parts(path: Sequence[str | tuple[str, ...]]) -> tuple[str, ...]:
    """A path with tuples in it, flat: Jinja takes no arguments after ``*row.path``."""
    return tuple(part for item in path for part in ((item,) if isinstance(item, str) else item))


class Figures:
    """Prints an audit's figures; a null becomes a dash with its reason as a numbered footnote.

    Every number sits in a ``<data value="…" data-key="…">``, so that the page can be checked against the audit.
    """

    def __init__(self, audit: Audit, prefix: str = "n") -> None:
        """Take the audit to print; ``prefix`` keeps footnote anchors of several reports on a page apart."""
        self.audit, self.prefix = audit, prefix
        self.notes: list[str] = []

    def get(self, *path: str | tuple[str, ...]) -> Any:
        """The raw value at a path, one part (or a tuple of parts) an argument."""
        return lookup(self.audit, _parts(path))

    def footnote(self, reason: str) -> Markup:
        """A link to the footnote with this reason; equal reasons share one."""
        if reason not in self.notes:
            self.notes.append(reason)
        number = self.notes.index(reason) + 1
        return Markup('<sup><a href="#{0}-{1}">{1}</a></sup>').format(self.prefix, number)

    def fig(self, *path: str | tuple[str, ...], kind: str = "auto") -> Markup:
        """The figure at a path."""
        parts = _parts(path)
        value = lookup(self.audit, parts)
        if value is None:
            reason = null_reason(self.audit, parts) or "Not in this audit."
            return Markup('<span class="null">{}</span>{}').format(DASH, self.footnote(reason))
        return Markup('<data value="{}" data-key="{}">{}</data>').format(value, ".".join(parts), format_number(value, kind))

    def interval(self, *path: str | tuple[str, ...], kind: str = "pct") -> Markup:
        """The two ends of an interval, or nothing where the figure beside it is null as well."""
        value = self.get(*path)
        if not isinstance(value, list) or len(value) != 2 or None in value:
            return Markup("")
        low, high = (self.fig(*path, end, kind=kind) for end in ("0", "1"))
        return Markup('<span class="ci">{} to {}</span>').format(low, high)

    def each(self, *path: str, kind: str = "auto") -> Markup:
        """All values of a list, small, beside their mean."""
        values = self.get(*path) or []
        shown = [self.fig(*path, str(index), kind=kind) for index in range(len(values))]
        return Markup('<span class="ci">{}</span>').format(Markup(", ").join(shown))

    def distinct(self, *path: str) -> Markup:
        """A number, or the different ones of a list (a repeat count each canary would fill the page)."""
        value = self.get(*path)
        if not isinstance(value, list):
            return self.fig(*path)
        return escape(", ".join(format_number(item) for item in sorted(set(value))))

    def count(self, rate: Sequence[str], n: Sequence[str]) -> Markup:
        """``k of n`` from a rate and its n, or a dash."""
        share, total = lookup(self.audit, rate), lookup(self.audit, n)
        if share is None or not total:
            return self.fig(*rate)
        return Markup("{} of {}").format(format_number(round(share * total), "int"), format_number(total, "int"))


def embed_image(run_dir: Path, relative: Any) -> str | None:
    """A PNG of the run directory as a data URI; None if it is missing, outside of it, too large or no PNG."""
    if not isinstance(relative, str):
        return None
    root, path = run_dir.resolve(), (run_dir / relative).resolve()
    if not path.is_relative_to(root) or not path.is_file() or path.stat().st_size > MAX_IMAGE_BYTES:
        return None
    data = path.read_bytes()
    return "data:image/png;base64," + base64.b64encode(data).decode() if data.startswith(PNG_MAGIC) else None


def _strips(audit: Audit, run_dir: Path) -> list[dict[str, Any]]:
    names = ("original", "generated", "nearest")
    return [
        {**strip, "embedded": [(name, embed_image(run_dir, (strip.get("images") or {}).get(name))) for name in names]}
        for strip in audit.get("strips") or []
    ]


def _extraction_rows(audit: Audit) -> list[dict[str, Any]]:
    """One row a group, space and k, in reading order, with the path of its figures."""
    rows = []
    for group, label in GROUPS:
        holder = lookup(audit, ("extraction", "groups", group)) or {}
        for space, space_label in SPACES:
            for k in holder.get(space) or {}:
                path = ("extraction", "groups", group, space, k)
                rows.append({"group": group, "label": label, "space": space_label, "k": k, "path": path})
    return rows


def _charts(audit: Audit) -> dict[str, tuple[str, str] | None]:
    """Each chart for a wide and a narrow screen."""
    curves = audit.get("curves") or []
    # A round may look at fewer held-out images than the final figures: its own start is what it is held against.
    steps = float(audit["steps"] or 0)
    base = curves[0]["heldout_loss"] if curves and curves[0]["step"] == 0 else lookup(audit, "fidelity.heldout_loss_base")
    pairs = {
        "detectors": (detector_chart(curves, WIDE), detector_chart(curves, NARROW)),
        "exposure": (exposure_chart(audit["detectors"], WIDE), exposure_chart(audit["detectors"], NARROW)),
        "losses": (loss_chart(curves, base, WIDE), loss_chart(curves, base, NARROW)),
        "roc": (roc_chart(audit["detectors"], WIDE), roc_chart(audit["detectors"], NARROW)),
        "timeline": (timeline_chart(audit["actions"], curves, steps, WIDE), timeline_chart(audit["actions"], curves, steps, NARROW)),
    }
    return {name: (wide, narrow) if wide and narrow else None for name, (wide, narrow) in pairs.items()}


def repeat_levels(audit: Audit) -> list[int]:
    """The repeat levels that any detector was judged at, ascending."""
    rows = [row for entry in audit["detectors"].values() for row in entry.get("by_repeats") or []]
    return sorted({row["repeats"] for row in rows})


@cache
def environment() -> Environment:
    """The templates, with autoescape on everywhere: audits hold strings from elsewhere."""
    env = Environment(
        loader=PackageLoader("cxrguard.audit", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["number"] = format_number
    env.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    return env


def read_prompts(run_dir: Path) -> dict[str, Any]:
    """The report text that the run was asked to show: ``strips`` by pseudonym and ``sanitizer`` as pairs of wordings, both often empty."""
    shown = read_json(run_dir / PROMPTS) if (run_dir / PROMPTS).is_file() else {}
    return {"strips": shown.get("strips") or {}, "sanitizer": shown.get("sanitizer") or []}


def report_context(audit: Audit, run_dir: Path, prefix: str = "n", show_prompts: bool = True) -> dict[str, Any]:
    """What the report's body needs, for one run."""
    figures = Figures(audit, prefix)
    return {
        "audit": audit,
        "f": figures,
        "fig": figures.fig,
        "strips": _strips(audit, run_dir),
        "prompts": read_prompts(run_dir) if show_prompts else {"strips": {}, "sanitizer": []},
        "markers_in": MARKER_GROUPS,
        "extraction_rows": _extraction_rows(audit),
        "charts": _charts(audit),
        "levels": repeat_levels(audit),
        "looked": _looked(audit),
        "replication_note": replication_note(audit),
        "held": held_back(audit["actions"]),
        "events": events(audit["actions"]),
    }


def _looked(audit: Audit) -> dict[str, Any] | None:
    """How many prompts a scheduled round looked at, and whether these were some of them."""
    n = audit["curves"][-1].get("n") if audit.get("curves") else None
    return n and {**n, "some": n["canaries"] < audit["canaries"]["n"] or n["controls"] < audit["controls"]["n"]}


def render_body(audit: Audit, run_dir: Path, prefix: str = "n", show_prompts: bool = True) -> Markup:
    """The report of one run, without the page around it."""
    return Markup(environment().get_template("body.html.j2").render(report_context(audit, run_dir, prefix, show_prompts)))


def render_report(run_dir: Path, show_prompts: bool = True) -> str:
    """The page of a run directory; ``show_prompts=False`` for a copy that goes elsewhere."""
    audit = read_audit(run_dir / "audit.json")
    name = lookup(audit, "run.name") or "run"
    body = render_body(audit, run_dir, show_prompts=show_prompts)
    return environment().get_template("report.html.j2").render(title=f"{name}: memorization audit", body=body)


def write_report(run_dir: str | Path) -> Path:
    """Render ``report.html`` (mode 0600) from a run directory's ``audit.json``.

    Returns:
        The page's path.

    Raises:
        CxrguardError: if the audit is missing or breaks the contract.

    """
    run_dir = Path(run_dir)
    return write_private(run_dir / "report.html", render_report(run_dir))
