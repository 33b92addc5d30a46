"""Which Debian packages the bench needs, and having them installed."""

import shutil
import subprocess
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from runner.errors import UsageError

BUILD = (
    "g++",
    "meson",
    "ninja-build",
    "pkg-config",
    "libbenchmark-dev",
    "libmimalloc-dev",
    "nlohmann-json3-dev",
    "python3-rich",
)
PLOT = ("python3-matplotlib",)

TOOLS = {"meson": "meson", "ninja": "ninja-build", "pkg-config": "pkg-config"}
"""Programs that are started by name, for systems where no package could be asked for."""


def ensure(repo: Path, plot: bool) -> bool:
    """False when a package is missing and cannot be installed; the user has been told by then."""
    wanted = BUILD + PLOT if plot else BUILD
    done = subprocess.run(
        ["bash", "-c", 'source "$0"; ensure_packages "$@"', str(repo / ".ci/packages.sh"), *wanted],
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        return False
    _check_tools(plot)
    return True


def versions(packages: Iterable[str]) -> dict[str, str] | None:
    """Of those that are installed; None where there is no dpkg to ask."""
    command = ["dpkg-query", "-W", "-f=${Package} ${db:Status-Status} ${Version}\n", *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    words = [line.split() for line in done.stdout.splitlines()]
    return {line[0]: line[2] for line in words if len(line) == 3 and line[1] == "installed"}


def _check_tools(plot: bool) -> None:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise UsageError(f"{tool} is not installed (Debian: {package})")
    for module in ("rich", "matplotlib") if plot else ("rich",):
        if find_spec(module) is None:
            raise UsageError(f"Python's {module} is not installed (Debian: python3-{module})")
