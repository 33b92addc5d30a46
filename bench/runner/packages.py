"""Which Debian packages the bench needs, and having them installed."""

import shutil
import subprocess
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


def _check_tools(plot: bool) -> None:
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise UsageError(f"{tool} is not installed (Debian: {package})")
    try:
        import rich  # noqa: F401

        if plot:
            import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(f"the Python module {error.name} is not installed (Debian: python3-{error.name})") from None
