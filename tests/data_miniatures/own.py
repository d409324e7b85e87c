"""A user's own data: a table, or WebDataset shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from data_miniatures.samples import MISSING, Miniature, Sample

Rows = list[dict[str, Any]]
Member = tuple[str, bytes] | tarfile.TarInfo
# labels of several de-identifiers
PHRASES = (
    "Compared to <DATE>, there is no change.",
    "No pneumothorax since [REDACTED].",
    "Discussed with Dr. [NAME] by telephone.",
    "",
)
_PER_SHARD = 100


def csv_of(rows: Rows, path: Path) -> Path:
    pd.DataFrame(rows).to_csv(path / "t.csv", index=False)
    return path / "t.csv"


def jsonl_of(rows: Rows, path: Path) -> Path:
    (path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path / "t.jsonl"


def parquet_of(rows: Rows, path: Path) -> Path:
    pd.DataFrame(rows).to_parquet(path / "t.parquet")
    return path / "t.parquet"


def write_shard(path: Path, members: Sequence[Member], **options: Any) -> Path:
    """Write a tar archive."""
    with tarfile.open(path, "w", **options) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def write_table(root: Path, samples: Sequence[Sample]) -> Miniature:
    """A Parquet table with columns of the user's own names."""
    rows: Rows = []
    for sample in samples:
        name = f"films/{sample.number}.png"
        sample.save(root / name)
        rows.append({"film": name, "text": sample.impression, "who": sample.patient + 61_001})
    path = parquet_of(rows, root)
    columns = ["data.image_column=film", "data.prompt_column=text", "data.subject_column=who"]
    return Miniature(["data=table", f"data.path={path}", f"data.root={root}", *columns], list(range(1, len(samples) + 1)))


def write_webdataset(root: Path, samples: Sequence[Sample]) -> Miniature:
    """Some shards; the sample whose file is missing has no image in its shard."""
    root.mkdir(parents=True)
    for start in range(0, len(samples), _PER_SHARD):
        members: list[Member] = []
        for sample in samples[start : start + _PER_SHARD]:
            key, meta = f"{sample.number:06}", {"subject_id": f"p{sample.patient + 61_001}", "labels": ["Edema"], "view": "PA"}
            members += [] if sample.number == MISSING else [(f"{key}.png", sample.image())]
            members += [(f"{key}.txt", sample.impression.encode()), (f"{key}.json", json.dumps(meta).encode())]
        write_shard(root / f"train-{start // _PER_SHARD:03}.tar", members)
    return Miniature(["data=webdataset", f"data.root={root}"], list(range(1, len(samples) + 1)))
