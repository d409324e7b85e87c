"""What an honest tar archive never holds."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath


def tar_fault(member: tarfile.TarInfo, max_bytes: int) -> str:
    """Why an archive with this member is refused, to follow "member 3 of the archive", or ""; names nothing of it."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        return "climbs out of it"
    if not (member.isfile() or member.isdir()):
        return "is a link or a device"
    return f"has more than {max_bytes >> 20} MiB" if member.size > max_bytes else ""
