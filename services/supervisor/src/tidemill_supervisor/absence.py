"""Import libraries without what they load and we never use, where it costs every Worker time and memory for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


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


@contextmanager
def hollow(module: str) -> Iterator[None]:
    """In the body this module is there without its content, unless it has been loaded: every name in it is `object`.

    For a part of a library that the rest of it imports and needs only when it is used.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = _Hollow(module)
    try:
        yield
    finally:
        del sys.modules[module]


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> type[object]:
        if name.startswith("__"):  # what the import system asks for
            raise AttributeError(name)
        return object
