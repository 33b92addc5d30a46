"""One run of one program, in a process of its own, through the launcher."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runner.errors import BuildError, UsageError


OUTPUT_LIMIT = 64 * 2**20
"""Bytes that a program may print, to each of stdout and stderr."""

_SPLITS = re.compile("[ :]")

_LOOK_S = 0.05
"""How long an output grows before somebody looks how large it is."""


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    preload: Path | None = None


@dataclass(frozen=True)
class Run:
    """What one run cost, and how it ended."""

    wall_ns: int
    user_ns: int
    sys_ns: int
    peak_bytes: int
    exit_status: int | None
    signal: int | None
    timed_out: bool
    exec_error: str | None
    stdout: Path
    stderr: Path
    preload: Path | None = None
    """As it was given to the loader."""
    too_long: str | None = None
    """The output that was longer than may be: stdout or stderr. The program was ended for it."""

    @property
    def ending(self) -> str:
        if self.timed_out:
            return "timed out"
        if self.exec_error is not None:
            return self.exec_error
        if self.signal is not None:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(self.signal).name}"
            return f"killed by signal {self.signal}"
        return f"exit status {self.exit_status}"


class Measurer:
    def __init__(
        self, launcher: Path, scratch: Path, *, timeout: float, pin: str | None, stdin: Path | None
    ) -> None:
        self._launcher = launcher
        self._scratch = scratch
        self.timeout = timeout
        self._pin = pin
        self._stdin = stdin
        # A user's preloaded library would be in every allocator's run, and a table of Cached among
        # what the program says; Google Benchmark would take options from the environment.
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("LD_PRELOAD", "SYSALLOC_STATS") and not name.startswith("BENCHMARK_")
        }

    def run(self, command: Command) -> Run:
        """Its output files hold until the next run."""
        result, stdout, stderr = (
            self._scratch / name for name in ("result.json", "stdout", "stderr")
        )
        for path in (result, stdout, stderr):
            path.write_bytes(b"")

        argv = [
            str(self._launcher),
            "--out",
            str(result),
            "--stdout",
            str(stdout),
            "--stderr",
            str(stderr),
        ]
        if self._pin:
            argv += ["--cpu", self._pin]
        preload = command.preload and self._loadable(command.preload)
        if preload:
            argv += ["--preload", str(preload)]
        timed_out, complaint = self._start([*argv, "--", *command.argv], (stdout, stderr))
        too_long = _too_long((stdout, stderr))

        try:
            content = json.loads(result.read_text())
        except ValueError:
            if not timed_out and not too_long:
                raise BuildError(
                    f"the launcher measured nothing: {complaint or 'no reason given'}"
                ) from None
            content = {}
        return Run(
            wall_ns=content.get("wall_ns", 0),
            user_ns=content.get("user_ns", 0),
            sys_ns=content.get("sys_ns", 0),
            peak_bytes=content.get("max_rss_bytes", 0),
            exit_status=content.get("exit_status"),
            signal=content.get("signal"),
            timed_out=timed_out,
            exec_error=content.get("exec_error") or None,
            stdout=stdout,
            stderr=stderr,
            preload=preload,
            too_long=too_long,
        )

    def _loadable(self, library: Path) -> Path:
        """A path that LD_PRELOAD, which is a list, does not split."""
        if not _SPLITS.search(str(library)):
            return library
        if _SPLITS.search(str(self._scratch)):
            raise UsageError(
                f"{library} cannot be preloaded by a path with a space or a colon, nor by a link "
                f"in {self._scratch.parent}: set TMPDIR to another directory"
            )
        # One directory for each, so that they keep their names.
        name = hashlib.sha256(os.fsencode(library)).hexdigest()[:16]
        link = self._scratch / "libraries" / name / _SPLITS.sub("_", library.name)
        if not link.is_symlink():
            link.parent.mkdir(parents=True)
            link.symlink_to(library)
        return link

    def _start(self, argv: list[str], outputs: tuple[Path, ...]) -> tuple[bool, str]:
        """Whether it timed out, and what the launcher itself had to say."""
        end = time.monotonic() + self.timeout
        with open(self._stdin or os.devnull, "rb") as stdin:
            # A session of its own, so that the whole family can be ended at once.
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=self._environment,
                start_new_session=True,
            )
            try:
                while True:
                    left = end - time.monotonic()
                    try:
                        complaint = process.communicate(timeout=max(0.0, min(left, _LOOK_S)))[1]
                        return False, complaint.strip()
                    except subprocess.TimeoutExpired:
                        if left <= _LOOK_S:
                            return True, ""
                        if _too_long(outputs):
                            return False, ""
            finally:
                # What the program has left running, too, but for what has another user's rights.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if process.stderr:
                    process.stderr.close()


def _too_long(outputs: tuple[Path, ...]) -> str | None:
    return next((path.name for path in outputs if path.stat().st_size > OUTPUT_LIMIT), None)


def last_lines(path: Path, count: int = 3) -> list[str]:
    """The end of a program's output, for an error message."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().decode(errors="replace").splitlines()[-count:]
