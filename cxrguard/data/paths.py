"""Image paths that stand in a table: they are data, and must not lead out of the data set's directory."""

from __future__ import annotations

import os
from pathlib import Path

OUT_OF_ROOT = "the image path leads out of data.root"


def leads_out(name: str) -> bool:
    """Whether ``name`` is an absolute path or climbs out of where it starts."""
    normal = os.path.normpath(name)
    return os.path.isabs(name) or normal == os.pardir or normal.startswith(os.pardir + os.sep)


def inside(root: Path, name: str) -> Path | None:
    """``root / name``, or None where ``name`` is absolute or climbs out of ``root``.

    The name alone is judged: a link below the root is the user's own doing. What is returned holds no ``..``, as behind such a
    link ``..`` is another directory than the one that the name shows.
    """
    return None if leads_out(name) else root / os.path.normpath(name)


def is_file(path: Path) -> bool:
    """Whether ``path`` is a file that can be reached; False for a name that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
