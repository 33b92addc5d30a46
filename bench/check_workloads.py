"""Tests of the benchmark's own programs, which `meson test --suite bench` runs.

    check_workloads.py micro EXE [FILE]    every workload runs, once; operator new comes from FILE
    check_workloads.py app EXE...          all print the same checksum, and refuse what they should
    check_workloads.py launcher EXE        what it writes down is true
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def run(*argv: str) -> subprocess.CompletedProcess:
    return subprocess.run(argv, capture_output=True, text=True)


def expect(condition: bool, complaint: str) -> None:
    if not condition:
        sys.exit(f"check_workloads.py: {complaint}")


def check_micro(exe: str, operator_new_file: str | None = None) -> None:
    # With no time to fill, one iteration is enough for Google Benchmark.
    done = run(exe, "--benchmark_min_time=0", "--benchmark_format=json")
    expect(done.returncode == 0, f"{exe} ended with {done.returncode}: {done.stderr}")
    report = json.loads(done.stdout)
    names = [one["name"] for one in report["benchmarks"]]
    expect(len(names) == len(set(names)) and names, f"the workloads of {exe} need names of their own")
    for one in report["benchmarks"]:
        expect("error_occurred" not in one, f"{one['name']}: {one.get('error_message')}")
    if operator_new_file is not None:
        found = Path(report["context"]["operator_new"])
        expect(found.samefile(operator_new_file), f"operator new is in {found}, not {operator_new_file}")


def check_app(*exes: str) -> None:
    checksums = set()
    for exe in exes:
        done = run(exe, "--scale", "0")
        expect(done.returncode == 0 and not done.stderr, f"{exe} ended with {done.returncode}: {done.stderr}")
        last = done.stdout.splitlines()[-1]
        expect(bool(re.fullmatch("checksum: [0-9a-f]{16}", last)), f"{exe} ends with '{last}'")
        checksums.add(last)
    expect(len(checksums) == 1, f"different checksums of {', '.join(exes)}")

    with tempfile.TemporaryDirectory() as empty:
        refusals = {("--scale", "0", "--root", empty): 1, ("--scale", "many"): 2, ("--scale",): 2, ("--what",): 2}
        for options, status in refusals.items():
            done = run(exes[0], *options)
            expect(
                done.returncode == status and done.stderr.count("\n") == 1 and not done.stdout,
                f"{exes[0]} {' '.join(options)} ended with {done.returncode}: {done.stdout}{done.stderr}",
            )


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def check_launcher(exe: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        out, stdout = Path(scratch, "out.json"), Path(scratch, "stdout")

        def measure(*command: str) -> dict:
            done = run(exe, "--out", str(out), "--stdout", str(stdout), "--", *command)
            expect(done.returncode == 0, f"the launcher ended with {done.returncode}: {done.stderr}")
            return json.loads(out.read_text())

        result = measure("sh", "-c", "echo heard; exit 3")
        expect(result["exit_status"] == 3 and result["exec_error"] is None, f"exit 3 became {result}")
        expect(stdout.read_text() == "heard\n", f"the output became '{stdout.read_text()}'")
        expect(result["wall_ns"] > 0 and result["max_rss_bytes"] > 0, f"nothing costs nothing: {result}")
        result = measure("sh", "-c", "kill -KILL $$")
        expect(result["signal"] == 9, f"signal 9 became {result}")
        result = measure(str(Path(scratch, "no such program")))
        expect("no such program" in result["exec_error"], f"a missing program became {result}")

        for number in (signal.SIGTERM, signal.SIGKILL):
            started = Path(scratch, f"started-{number}")
            command = f"sleep 60 & echo $$ $! >{started}; wait"
            launcher = subprocess.Popen([exe, "--out", str(out), "--", "sh", "-c", command])
            while not (started.exists() and started.read_text().endswith("\n")):
                time.sleep(0.01)
            launcher.send_signal(number)
            launcher.wait()
            # What cannot be handled ends the program alone.
            processes = started.read_text().split()[: 1 if number == signal.SIGKILL else None]
            time.sleep(0.2)
            alive = [one for one in processes if is_running(one)]
            expect(not alive, f"signal {number} to the launcher leaves {alive} running")
            if number == signal.SIGKILL:
                os.killpg(launcher.pid, signal.SIGKILL)

        expect(run(exe, "--out", str(out)).returncode == 2, "the launcher should want a program")
        expect(run(exe, "--what").returncode == 2, "the launcher should know its options")


if __name__ == "__main__":
    checks = {"micro": check_micro, "app": check_app, "launcher": check_launcher}
    checks[sys.argv[1]](*sys.argv[2:])
