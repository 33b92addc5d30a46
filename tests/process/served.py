"""Reads what programs/serves.cpp printed: which function of which file served each form of new."""

import bisect
import pathlib

import support

NOTHROW_FORMS = {"new_nothrow", "new[]_nothrow"}
ALIGNED_NOTHROW_FORMS = {"new_aligned_nothrow", "new[]_aligned_nothrow"}
PLAIN_FORMS = {"new", "new[]"} | NOTHROW_FORMS
ALL_FORMS = PLAIN_FORMS | {"new_aligned", "new[]_aligned"} | ALIGNED_NOTHROW_FORMS


class Table:
    """The functions of an executable or shared library by address."""

    def __init__(self, path):
        header = support.run(["readelf", "-h", path]).stdout
        self.fixed = "EXEC (Executable file)" in header
        symbols = support.defined_symbols(path) or support.defined_symbols(path, dynamic=True)
        self.functions = sorted(
            (value, name) for name, (value, kind) in symbols.items() if kind in "tTwWi"
        )

    def at(self, address, base):
        value = address if self.fixed else address - base
        index = bisect.bisect_right(self.functions, (value, "~")) - 1
        return self.functions[index][1] if index >= 0 else "nothing"


def served_by(output):
    """{form of new: (file name, function)} from the program's output."""
    tables = {}
    served = {}
    for line in output.splitlines():
        if line == "done":
            continue
        form, address, base, path = line.split(" ", 3)
        if path not in tables:
            tables[path] = Table(path)
        function = tables[path].at(int(address, 16), int(base, 16))
        served[form] = (pathlib.Path(path).name, function)
    return served


class ServedTestCase(support.TestCase):
    def assert_served(self, command, forms, *, by, env=None):
        """Runs the program and asserts that the functions of sysalloc in the file `by` serve."""
        result = self.check(command, env=env)
        self.assertTrue(result.stdout.endswith("done\n"), support.describe(result))
        served = served_by(result.stdout)
        self.assertEqual(set(served), forms, support.describe(result))
        for form, (file, function) in served.items():
            self.assertEqual(file, by, f"{form}, {function}")
            self.assertIn("8sysalloc", function, f"{form} in {file}")

    def assert_not_served(self, command):
        """Runs the program and asserts that no function of sysalloc serves it."""
        result = self.check(command)
        self.assertTrue(result.stdout.endswith("done\n"), support.describe(result))
        served = served_by(result.stdout)
        self.assertTrue(served)
        for form, (file, function) in served.items():
            self.assertNotIn("8sysalloc", function, f"{form} in {file}")
