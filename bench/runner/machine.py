"""What the figures were measured on, for the report: figures of two machines do not compare."""

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(build_dir: Path) -> dict[str, object]:
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "compiler": _compiler(build_dir),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "transparent_huge_pages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def revision(repo: Path) -> dict[str, object]:
    commit = _output(["git", "-C", str(repo), "rev-parse", "HEAD"])
    changes = _output(["git", "-C", str(repo), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "modified": None if commit is None else bool(changes)}


def one_line(machine: dict[str, object]) -> str:
    parts = [
        machine["cpu"],
        f"{machine['cpus']} CPUs",
        machine["kernel"],
        machine["libc"],
        machine["compiler"],
    ]
    return ", ".join(str(part) for part in parts if part)


def busy(machine: dict[str, object]) -> str | None:
    """A warning, when other work on the machine is likely to disturb the figures."""
    load, cpus = float(str(machine["load_average_before"])), int(str(machine["cpus"]))
    return (
        f"load average {load} on {cpus} CPUs: other work will disturb the figures"
        if load > cpus / 2
        else None
    )


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else platform.machine()


def _compiler(build_dir: Path) -> str | None:
    log = _read(str(build_dir / "meson-logs" / "meson-log.txt")) or ""
    match = re.search(r"^C\+\+ compiler for the host machine: .*?\((.+?)\)\s*$", log, re.MULTILINE)
    return match[1].replace('"', "") if match else _output(["c++", "--version"], first_line=True)


def _chosen(text: str | None) -> str | None:
    match = re.search(r"\[(\w+)\]", text or "")
    return match[1] if match else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def _output(command: list[str], first_line: bool = False) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    return done.stdout.split("\n", 1)[0] if first_line else done.stdout.strip()
