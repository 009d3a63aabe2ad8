"""Import libraries without their optional companions, where these cost every Worker time and memory for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """In the body these packages cannot be imported, unless they have been; afterwards they can."""
    blocked = [package for package in packages if package not in sys.modules]
    for package in blocked:
        sys.modules[package] = None  # type: ignore[assignment]  # documented: makes `import` raise ModuleNotFoundError
    try:
        yield
    finally:
        for package in blocked:
            del sys.modules[package]
