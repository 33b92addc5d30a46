"""The whole course of a run: check, build, measure, report."""

import contextlib
import io
import os
import signal
import stat
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from runner import build, elf, machine, manifest, options, packages, plan, workloads
from runner.allocators import KNOWN, OPTIONAL_PACKAGES, Added
from runner.errors import BuildError, Interrupted, UsageError, signal_of
from runner.manifest import Manifest, Variant
from runner.options import Options
from runner.results import Results
from runner.verdict import Verdict
from runner.workloads import Workload

REPO = Path(__file__).resolve().parent.parent.parent

_OF_A_SHELL = {"|", "||", "&", "&&", ";", "<", ">", ">>", "2>", "2>&1"}

OK, FAILED, NOTHING_MEASURED = 0, 1, 2
# Interrupted is 128 and the signal's number, as a shell has it.


def main(argv: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no ± shall get a question mark, not a traceback.
        sys.stdout.reconfigure(errors="replace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Not where it is ignored, as nohup has it.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    try:
        return _main(options.parse(argv))
    except UsageError as error:
        _say(f"bench/run: {error}")
    except BuildError as error:
        _say(str(error))
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _say(f"bench/run: {_reason(error)}")
        _drop_output()
    except KeyboardInterrupt as interrupt:
        _say("interrupted")
        return 128 + signal_of(interrupt)
    return NOTHING_MEASURED


def _drop_output() -> None:
    """Of what cannot be written, Python would try to write the rest on its way out."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else f"cannot write: {error.strerror}"


def _interrupt(number: int, _: object) -> NoReturn:
    raise Interrupted(number)


def _main(chosen: Options) -> int:
    if not packages.ensure(REPO, plot=chosen.plot is not None):
        return NOTHING_MEASURED
    # Before the build, which may be long, where that can be known before.
    installed = packages.versions(OPTIONAL_PACKAGES.values())
    for name in chosen.allocators.names:
        package = OPTIONAL_PACKAGES.get(name)
        if package and installed is not None and package not in installed:
            raise UsageError(f"{name} is not installed (apt-get install {package})")

    from runner import progress

    is_first = not build.directory(REPO).exists()
    with progress.status("Building; this takes a minute the first time", is_long=is_first):
        # Nothing is linked for programs: what is added is for the loader alone.
        build_dir = build.build(REPO, None if chosen.programs else chosen.allocators.added)
    made = manifest.read(build_dir)
    if chosen.programs:
        made = _with_libraries(made, chosen.allocators.added)
    variants = workloads.choose(made, chosen.allocators, for_program=bool(chosen.programs))
    if chosen.programs:
        todo = workloads.programs(chosen.programs, variants)
    else:
        todo = workloads.select(workloads.discover(made, variants), chosen.only, chosen.filter)
    if chosen.list:
        _list(todo, made)
        return OK
    return _measure(chosen, build_dir, made, variants, todo)


def _with_libraries(made: Manifest, added: Iterable[Added]) -> Manifest:
    """In the place of those that the build was given, maybe by another run."""
    built = [variant for variant in made.variants if variant.name in KNOWN]
    brought = [Variant(one.name, "preloaded", one.path) for one in added]
    return replace(made, variants=(*built, *brought))


def _measure(
    chosen: Options, build_dir: Path, made: Manifest, variants: list[Variant], todo: list[Workload]
) -> int:
    from runner import progress, rounds, verdict
    from runner.measure import Measurer

    described = machine.describe(build_dir)
    _warn(chosen, made, described, variants)
    with tempfile.TemporaryDirectory(prefix="sysalloc-bench-") as scratch_name:
        scratch = Path(scratch_name)
        outputs = scratch / "outputs"
        outputs.mkdir()
        measurer = Measurer(
            made.launcher, scratch, timeout=chosen.timeout, pin=chosen.pin, stdin=chosen.stdin
        )
        planned = plan.make(full=chosen.full, rounds=chosen.rounds)
        with progress.progress() as shown:
            results = rounds.run(
                todo, workloads.columns(variants), planned, measurer, outputs, shown
            )
        judged = verdict.judge(results, outputs)
    if results.interrupted and not any(
        cell.samples or cell.failure for cell in results.cells.values()
    ):
        _say("interrupted before anything was measured")
        return 128 + results.interrupted
    _report(chosen, results, judged, variants, described)
    if results.interrupted:
        _say("interrupted: the tables show what was measured until then")
        return 128 + results.interrupted
    return FAILED if judged.failures else OK


def _report(
    chosen: Options,
    results: Results,
    judged: Verdict,
    variants: list[Variant],
    described: dict[str, object],
) -> None:
    from runner import legend, report_json, table
    from runner.summary import PEAK, TIME, summarise

    time, peak = summarise(results, TIME), summarise(results, PEAK)
    console = table.console()
    for summary in (time, peak):
        if summary.groups:
            table.render(summary, console)
    console.print()
    for line in legend.lines(results, time, variants, machine.one_line(described)):
        console.print(line, style="dim", markup=False)
    if chosen.json:
        revision = machine.revision(REPO)
        report_json.write(
            chosen.json, chosen, results, time, peak, variants, described, revision, judged.failures
        )
    if chosen.plot:
        from runner import plot

        plot.draw(time, chosen.plot, f"on {described['cpu']}, {described['cpus']} CPUs")
    sys.stdout.flush()
    for failing in judged.failing:
        _say(f"warning: {failing}")
    for note in judged.notes:
        _say(f"note: {note}")
    for failure in judged.failures:
        _say(f"FAILED: {failure}")


def _warn(
    chosen: Options, made: Manifest, described: dict[str, object], variants: list[Variant]
) -> None:
    """One line each for what makes the figures worth less."""
    if os.environ.get("LD_PRELOAD"):
        _say("note: LD_PRELOAD is set; nothing measured here sees it")
    if not chosen.allocators.names:
        for name, package in OPTIONAL_PACKAGES.items():
            if made.variant(name) is None:
                _say(f"{name}: not installed (apt-get install {package}); the rest still runs")
    if busy := machine.busy(described):
        _say(f"note: {busy}")
    if chosen.programs and chosen.stdin is None and _is_file(0):
        _say("note: what is redirected to the bench is not what a program reads: see --stdin")
    for word in sorted({word for argv in chosen.programs for word in argv[1:]} & _OF_A_SHELL):
        _say(f"note: '{word}' is an argument here, for there is no shell: see sh -c in --help")
    libraries = {variant.name: variant.preload for variant in variants if variant.preload}
    operators_alone = [name for name in libraries if not elf.replaces_malloc(libraries[name])]
    for program in dict.fromkeys(argv[0] for argv in chosen.programs):
        if problem := elf.preload_problem(Path(program)):
            _say(
                f"warning: no allocator can be preloaded into {program}, because {problem}: only libc's figures are shown"
            )
        elif operators_alone and (problem := elf.operators_problem(Path(program))):
            _say(
                f"warning: {program} {problem}: an allocator that replaces operator new alone "
                f"({', '.join(operators_alone)}) serves only what it starts or loads later, and its figures are libc's else"
            )


def _is_file(descriptor: int) -> bool:
    """With anything in it; a null device or a terminal is none."""
    with contextlib.suppress(OSError):
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_size > 0
    return False


def _list(todo: list[Workload], made: Manifest) -> None:
    for workload in todo:
        about = f"  {workload.about}" if workload.about else ""
        print(f"{workload.kind:5}  {workload.name}{about}")
    for variant in made.variants:
        print(f"under  {variant.name}  {variant.how}")


def _say(text: str) -> None:
    # Where nobody reads it any more, such as a terminal that was closed, the rest goes on.
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
