"""Tables of prompts, read and written a batch at a time: ``.csv``, ``.jsonl``, ``.parquet``, ``.txt``, ``-``.

Memory does not grow with the number of rows, and no message of an error quotes a cell.
"""

from cxrguard.tables.batch import Batch
from cxrguard.tables.formats import Writer, open_reader, open_writer
from cxrguard.tables.output import PrivateOutput, commit_all, open_output, told_of

__all__ = ["Batch", "PrivateOutput", "Writer", "commit_all", "open_output", "open_reader", "open_writer", "told_of"]
