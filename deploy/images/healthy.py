"""healthy.py URL [SECONDS]: exit 0 when a URL answers 2xx within 3 s; it is asked again for so many seconds.

For health checks, and to wait for a server: images have no curl, and `-I -S` starts in 20 ms.
"""

from __future__ import annotations

import sys
import time
import urllib.parse
from http.client import HTTPConnection, HTTPException


def main(url: str, seconds: str = "0") -> int:
    """0: healthy; 1: it says that it is not, or nothing."""
    deadline = time.monotonic() + float(seconds)
    while not is_healthy(url):
        if time.monotonic() >= deadline:
            return 1
        time.sleep(0.5)
    return 0


def is_healthy(url: str) -> bool:
    """What it says now."""
    parts = urllib.parse.urlsplit(url)
    try:
        connection = HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=3)
        connection.request("GET", parts.path or "/")
        return 200 <= connection.getresponse().status < 300
    except (OSError, HTTPException):
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
