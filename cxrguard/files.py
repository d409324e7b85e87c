"""Writing files that may hold protected figures: atomically, and readable by their owner only."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from cxrguard.errors import CxrguardError

PRIVATE_MODE = 0o600


def write_private(path: str | Path, content: str | bytes) -> Path:
    """Write ``content`` in one step, with mode 0600 from the first byte on.

    Args:
        path: Where to write; missing parent folders are made.
        content: Text (stored as UTF-8, line ends as given) or bytes.

    Returns:
        The path written. A reader sees the old file or the new one, never a part.

    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    # mkstemp creates with 0600 whatever the umask; the same folder keeps os.replace on one file system.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def finite_or_null(value: Any) -> Any:
    """A copy of ``value`` with every NaN and infinity as None: JSON has neither.

    NumPy scalars and arrays become Python numbers and lists, paths become strings.
    """
    if isinstance(value, dict):
        return {str(key): finite_or_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy and torch, without importing either
        return finite_or_null(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json_private(path: str | Path, obj: Any) -> Path:
    """Write ``obj`` as JSON, mode 0600, keys in their own order, NaN and infinity as ``null``."""
    return write_private(path, json.dumps(finite_or_null(obj), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        CxrguardError: if it cannot be read or is not JSON; the message names the file and quotes nothing of it.

    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CxrguardError(f"Cannot read {path.name} in {path.parent}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # ValueError: broken JSON or broken UTF-8
        raise CxrguardError(f"{path.name} in {path.parent} is not JSON. Was the run ended while it wrote?") from error
