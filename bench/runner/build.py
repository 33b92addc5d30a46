"""Configures and builds the optimised benchmark, in build/bench under the repository."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from runner import manifest, packages
from runner.allocators import OPTIONAL_PACKAGES, Added
from runner.errors import BuildError, UsageError


BASELINE_PACKAGES = ("libmimalloc-dev", *OPTIONAL_PACKAGES.values())


def directory(repo: Path) -> Path:
    return repo / "build" / "bench"


def build(repo: Path, added: Iterable[Added] | None) -> Path:
    """Returns the build directory. Without `added` only what it takes to measure programs is built."""
    build_dir = directory(repo)
    log = build_dir.with_suffix(".log")
    try:
        log.parent.mkdir(exist_ok=True)
        log.write_text("")
    except OSError as error:
        raise UsageError(
            f"cannot build in {log.parent}: {error.strerror}; run a copy of the checkout"
        ) from None
    _configure(repo, build_dir, log, added)
    targets = [] if added is not None else _for_programs(build_dir)
    _run(["ninja", "-C", str(build_dir), *targets], log)
    return build_dir


def _for_programs(build_dir: Path) -> list[str]:
    made = manifest.read(build_dir)
    wanted = [made.launcher, *(variant.preload for variant in made.variants if variant.preload)]
    return [str(path.relative_to(build_dir)) for path in wanted if path.is_relative_to(build_dir)]


def _configure(repo: Path, build_dir: Path, log: Path, added: Iterable[Added] | None) -> None:
    stamp = build_dir / "runner-settings.json"
    before = _read(stamp)
    options = {
        "bench_baselines": _kept(before)
        if added is None
        else ",".join(f"{one.name}={one.path}" for one in added),
        # Only for the comparison: a baseline that came, changed or went changes what the build finds.
        "found": packages.versions(BASELINE_PACKAGES),
    }
    # Meson fixes these at the first setup; a change needs a fresh directory.
    fixed = {"repo": str(repo)} | {
        name: os.environ.get(name) for name in ("CXX", "CXXFLAGS", "LDFLAGS")
    }
    settings = {"options": options, "fixed": fixed}

    if before == settings and (build_dir / "build.ninja").exists():
        return
    command = [
        "meson",
        "setup",
        str(build_dir),
        str(repo),
        "--buildtype=release",
        "-Dbench=true",
        "-Dtests=false",
    ]
    command.append(f"-Dbench_baselines={options['bench_baselines']}")
    # A setup that failed leaves a directory without this; a plain setup is right for it then.
    if (build_dir / "meson-private" / "coredata.dat").exists():
        command.append("--reconfigure" if before and before.get("fixed") == fixed else "--wipe")
    _run(command, log)
    stamp.write_text(json.dumps(settings, indent=2))


def _kept(before: dict | None) -> str:
    """The allocators that were added last, so that they need not be built again next time."""
    baselines = before["options"]["bench_baselines"] if before else ""
    paths = [one.partition("=")[2] for one in baselines.split(",")]
    return baselines if all(Path(path).is_file() for path in paths) else ""


def _run(command: list[str], log: Path) -> None:
    with (
        log.open("a") as output,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # So that it ends the compilers, too, where the signal came to this process alone.
            process.terminate()
            raise
    if status != 0:
        tail = log.read_text(errors="replace").splitlines()[-25:]
        raise BuildError(
            "\n".join([*tail, f"the build failed ({command[0]}); the whole log: {log}"])
        )


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
