"""From a Chroma record to its file, its offsets and its token matrix, with chromadb and numpy alone.

    python examples/read_index.py INDEX

Chroma belongs to one process at a time, so this reads a copy.
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import chromadb
import numpy as np


def main(index: Path) -> int:
    """Check every record's source bytes against its hash, and show the token matrix of the first; returns failures."""
    newest = max(path for path in (index / "chroma").iterdir() if path.is_dir())
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(newest, Path(scratch) / "chroma")
        with chromadb.PersistentClient(str(copy), settings=chromadb.Settings(anonymized_telemetry=False)) as client:
            passages = client.get_collection("passages", embedding_function=None)
            records = passages.get(include=["documents", "metadatas"])
    rows_of_records = zip(records["ids"], records["documents"] or [], records["metadatas"] or [], strict=True)
    for number, (passage, text, record) in enumerate(rows_of_records):
        if record["byte_start"] < 0:  # extracted from HTML, a notebook, PDF or DOCX: the hash is over the text itself
            source = text.encode()
        else:
            source = Path(str(record["path"])).read_bytes()[record["byte_start"] : record["byte_end"]]
        proved = hashlib.sha256(source).hexdigest() == record["sha256"]
        failures += not proved
        if number == 0:
            segment = index / "tokens" / str(record["segment"])
            rows = slice(record["token_start"], record["token_start"] + record["token_count"])
            tokens = np.load(segment / "tokens.npy", mmap_mode="r", allow_pickle=False)[rows]
            scales = np.load(segment / "scales.npy", mmap_mode="r", allow_pickle=False)[rows]
            matrix = tokens * scales[:, None].astype(np.float32)
            print(f"passage  {passage}")
            print(f"file     {record['path']}, lines {record['line_start']}-{record['line_end']}")
            print(f"bytes    {record['byte_start']}-{record['byte_end']}, hash {'holds' if proved else 'does not hold'}")
            print(f"tokens   {matrix.shape[0]} x {matrix.shape[1]}, lengths {np.linalg.norm(matrix, axis=1).mean():.3f}")
    print(f"{len(records['ids'])} records, {failures} whose source bytes no longer have their hash")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(Path(sys.argv[1])) else 0)
