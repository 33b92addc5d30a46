"""Shows on stderr how far the run is: a bar on a terminal, a line a round elsewhere."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    def round(self, number: int, runs: int, total_runs: int) -> None:
        ...

    def step(self, workload: str, column: str) -> None:
        ...

    def done(self) -> None:
        ...

    def end(self, total_runs: int) -> None:
        ...


class Plain:
    def __init__(self) -> None:
        self._done = 0

    def round(self, number: int, runs: int, total_runs: int) -> None:
        if number > 1:
            print(f"{self._done} of {total_runs} runs done", file=sys.stderr, flush=True)

    def step(self, workload: str, column: str) -> None:
        pass

    def done(self) -> None:
        self._done += 1

    def end(self, total_runs: int) -> None:
        print(f"{self._done} of {total_runs} runs done", file=sys.stderr, flush=True)


class Bar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress as RichProgress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._rich = RichProgress(
            TextColumn("{task.fields[round]}"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.description}", style="dim"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._rich.add_task("", total=None, round="")

    def __enter__(self) -> Progress:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()

    def round(self, number: int, runs: int, total_runs: int) -> None:
        # Nobody knows at first how many rounds there will be, so neither does the bar.
        total = total_runs if total_runs > runs else None
        self._rich.update(self._task, total=total, round=f"round {number}")

    def step(self, workload: str, column: str) -> None:
        self._rich.update(self._task, description=f"{workload} under {column}")

    def done(self) -> None:
        self._rich.advance(self._task)

    def end(self, total_runs: int) -> None:
        pass


def progress() -> AbstractContextManager[Progress]:
    if sys.stderr.isatty():
        return Bar()
    return nullcontext(Plain())


def status(text: str, is_long: bool) -> AbstractContextManager[object]:
    """While something else takes its time; what is short is not worth a line that stays."""
    if sys.stderr.isatty():
        from rich.console import Console

        return Console(stderr=True).status(text)
    if is_long:
        print(text, file=sys.stderr, flush=True)
    return nullcontext()
