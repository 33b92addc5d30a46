"""Writes manifest.json, which tells bench/run what the build made; its lines come from meson.build.

    manifest.py OUTPUT WORD...

Each entry is a WORD that names its kind, followed by the words it takes:

    variant NAME HOW PRELOAD    an allocator; PRELOAD is a shared library or empty
    micro VARIANT EXE           its micro workloads
    app NAME ABOUT              an application
    exe VARIANT EXE             of the application before it
    launcher EXE

Executables are relative to the build directory.
"""

import json
import sys


def manifest(words: list[str]) -> dict:
    result = {"variants": [], "micro": {}, "apps": [], "launcher": None}
    rest = iter(words)
    for kind in rest:
        if kind == "variant":
            name, how, preload = next(rest), next(rest), next(rest)
            result["variants"].append({"name": name, "how": how, "preload": preload or None})
        elif kind == "micro":
            variant = next(rest)
            result["micro"][variant] = next(rest)
        elif kind == "app":
            result["apps"].append({"name": next(rest), "about": next(rest), "exe": {}})
        elif kind == "exe":
            variant = next(rest)
            result["apps"][-1]["exe"][variant] = next(rest)
        elif kind == "launcher":
            result["launcher"] = next(rest)
        else:
            raise SystemExit(f"manifest.py: no such kind of entry: {kind}")
    return result


if __name__ == "__main__":
    output, *words = sys.argv[1:]
    with open(output, "w") as file:
        json.dump(manifest(words), file, indent=2)
        file.write("\n")
