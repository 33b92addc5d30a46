"""What the figures were measured on, for the report: figures of two machines do not compare."""

import os
import platform
import re
import subprocess
import time
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
        "busy_before": round(_busy_share(), 3),
    }


def revision(repo: Path) -> dict[str, object]:
    commit = _output(["git", "-C", str(repo), "rev-parse", "HEAD"])
    changes = _output(["git", "-C", str(repo), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit, "modified": None if commit is None else bool(changes)}


def one_line(machine: dict[str, object]) -> str:
    parts = [
        machine["cpu"],
        f"{machine['cpus']} CPU" + ("s" if machine["cpus"] != 1 else ""),
        machine["kernel"],
        machine["libc"],
        machine["compiler"],
    ]
    return ", ".join(str(part) for part in parts if part)


def busy(machine: dict[str, object]) -> str | None:
    """A warning, when other work on the machine is likely to disturb the figures."""
    share = machine["busy_before"]
    if not isinstance(share, float) or share < 0.15:
        return None
    return f"other programs use {share:.0%} of the CPUs, which will disturb the figures"


def _busy_share() -> float:
    """Of all CPUs' time, just now. The load average would still count the build that has ended."""
    before = _cpu_times()
    time.sleep(0.3)
    passed = [now - then for now, then in zip(_cpu_times(), before)]
    idle_and_waiting = sum(passed[3:5])
    return 1 - idle_and_waiting / sum(passed) if any(passed) else 0.0


def _cpu_times() -> list[int]:
    first = (_read("/proc/stat") or "cpu").split("\n", 1)[0]
    return [int(word) for word in first.split()[1:9]]


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else platform.machine()


def _compiler(build_dir: Path) -> str | None:
    log = _read(str(build_dir / "meson-logs" / "meson-log.txt")) or ""
    match = re.search(r'^C\+\+ compiler for the host machine: .*"(.+)"\)$', log, re.MULTILINE)
    return match[1] if match else _output(["c++", "--version"], first_line=True)


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
