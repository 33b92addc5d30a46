"""What the build made: the allocators and, for each, the executables to run.

The build writes it as JSON; its paths are relative to the build directory.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from runner.errors import BuildError


@dataclass(frozen=True)
class Variant:
    """One allocator."""

    name: str
    how: str
    """How it gets into a program, in words."""
    preload: Path | None
    """The library that brings it into any program, if there is one."""


@dataclass(frozen=True)
class App:
    name: str
    about: str
    exe: dict[str, Path]


@dataclass(frozen=True)
class Manifest:
    variants: tuple[Variant, ...]
    micro: dict[str, Path]
    apps: tuple[App, ...]
    launcher: Path

    def variant(self, name: str) -> Variant | None:
        return next((variant for variant in self.variants if variant.name == name), None)


def read(build_dir: Path) -> Manifest:
    path = build_dir / "bench" / "manifest.json"
    try:
        content = json.loads(path.read_text())

        def exes(paths: dict[str, str]) -> dict[str, Path]:
            return {name: build_dir / exe for name, exe in paths.items()}

        return Manifest(
            variants=tuple(
                Variant(
                    item["name"],
                    item["how"],
                    Path(item["preload"]) if item.get("preload") else None,
                )
                for item in content["variants"]
            ),
            micro=exes(content["micro"]),
            apps=tuple(
                App(item["name"], item["about"], exes(item["exe"])) for item in content["apps"]
            ),
            launcher=build_dir / content["launcher"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"the build left no usable {path}: {error!r}") from None
