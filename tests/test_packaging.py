"""What the distribution says of itself is so."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import resources
from importlib.metadata import packages_distributions
from pathlib import Path

import realtime_bus
import realtime_bus_plugins
from realtime_bus.inspector._page import SCRIPTS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = [Path(str(package.__file__)).parent for package in (realtime_bus, realtime_bus_plugins)]
USED_IF_THERE = {"compression", "mypy", "openai", "sniffio", "uvloop"}
"""What is measured beside us, asked, or runs us (mypy), where it happens to be installed; and what
comes with newer Pythons."""


def imported_modules() -> set[str]:
    """Return the top-level modules that the two packages import anywhere."""
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - {package.name for package in PACKAGES} - sys.stdlib_module_names


def declared_distributions() -> set[str]:
    """Return what the project requires, extras included, by normalized name."""
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(each for extra in extras for each in extra)]
    return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in requirements}


def test_the_inspectors_page_is_made_of_all_its_files() -> None:
    """What lies in its folder is in the page, and so in the wheel, which takes packages whole."""
    folder = resources.files("realtime_bus.inspector") / "static"
    there = {file.name for file in folder.iterdir()}
    assert there == {"page.html", "page.css", *SCRIPTS}


def test_what_is_imported_is_declared() -> None:
    """No module comes only because some other dependency happens to bring it along."""
    distributions = packages_distributions()
    names = {
        module: {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
        for module in imported_modules() - USED_IF_THERE
    }
    declared = declared_distributions()
    assert {module for module, found in names.items() if not found & declared} == set()
