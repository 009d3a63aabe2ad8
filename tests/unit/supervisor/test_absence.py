"""A package can be hidden from an import, and is there again afterwards."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import pytest

from tidemill_supervisor.absence import absent, hollow


def test_a_package_is_hidden_only_inside() -> None:
    with absent("tabnanny"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("tabnanny")
    assert "tabnanny" not in sys.modules
    assert importlib.util.find_spec("tabnanny") is not None


def test_a_package_that_is_loaded_stays() -> None:
    with absent("json"):
        assert importlib.import_module("json") is sys.modules["json"]


def test_a_hollow_module_has_every_name_and_no_content() -> None:
    with hollow("tabnanny"):
        assert importlib.import_module("tabnanny").check is object
    assert importlib.import_module("tabnanny").check is not object
    del sys.modules["tabnanny"]
