#!/usr/bin/env python3
"""Facts about a stored picture as JSON: the second step, started by what the first one stored."""

import hashlib
import json
import os
import struct
from pathlib import Path

KINDS = {0: "grey", 2: "colour", 3: "palette", 4: "grey with alpha", 6: "colour with alpha"}


def main():
    source = Path(os.environ["INPUT_FILE_PATH"])
    data = source.read_bytes()
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    facts = {
        "object": os.environ.get("STORAGE_OBJECT_KEY", source.name),
        "width": width,
        "height": height,
        "bits_per_channel": bits,
        "kind": KINDS.get(kind, "unknown"),
        "size_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    target = Path(os.environ["TMP_OUTPUT_DIR"]) / f"{source.stem}.json"
    target.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{source.name}: {facts['kind']}, {width} × {height}")


if __name__ == "__main__":
    main()
