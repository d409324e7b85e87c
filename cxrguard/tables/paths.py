"""Whether the files that a command is given can be what they are to be."""

from __future__ import annotations

import os

from cxrguard.errors import CxrguardError
from cxrguard.tables.lines import STANDARD


def check_files(paths: dict[str, str]) -> None:
    """Checks that the first file is there, none is a directory, and no two are the same.

    Args:
        paths: by what the user calls them: first the one that is read, then those that are written. "" is one that is not
            asked for; ``-`` is standard input as the first, else standard output.

    Raises:
        CxrguardError: If that is not so.

    """
    source = next(iter(paths.values()))
    # Not left to typer, which takes "-" for a file that does not exist.
    if source != STANDARD and not os.path.exists(source):
        raise CxrguardError(f"{source}: does not exist.")
    for path in paths.values():
        if os.path.isdir(path):
            raise CxrguardError(f"{path}: is a directory.")
    seen: dict[object, str] = {}
    for i, (name, path) in enumerate(paths.items()):
        if not path or (i == 0 and path == STANDARD):
            continue
        # A hard link is the same file under another path; a file that is not there yet has its path only.
        for key in {STANDARD} if path == STANDARD else {os.path.realpath(path), _inode(path)} - {None}:
            if (other := seen.setdefault(key, name)) != name:
                raise CxrguardError(f"{other} and {name} are the same file ({path}). Choose another for {name}.")


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
