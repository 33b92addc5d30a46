"""Wrong combinations of Meson options end the configuration with a sentence that says what to do."""

import support

# (options, what the message has to say). A new option adds its lines here.
WRONG = [
    (
        ["-Dglobal_allocator=custom"],
        "global_allocator=custom needs both -Dcustom_allocator_header=HEADER and "
        "-Dcustom_allocator_type=TYPE",
    ),
    (
        ["-Dglobal_allocator=custom", "-Dcustom_allocator_header=a.hpp"],
        "needs both -Dcustom_allocator_header=HEADER and -Dcustom_allocator_type=TYPE",
    ),
    (
        ["-Dglobal_allocator=custom", "-Dcustom_allocator_type=A"],
        "needs both -Dcustom_allocator_header=HEADER and -Dcustom_allocator_type=TYPE",
    ),
    (
        ["-Dcustom_allocator_header=a.hpp"],
        "have an effect only with -Dglobal_allocator=custom: add that, or leave the two empty",
    ),
    (
        ["-Dcustom_allocator_type=A"],
        "have an effect only with -Dglobal_allocator=custom: add that, or leave the two empty",
    ),
    (
        [
            "-Doverride=false",
            "-Dglobal_allocator=custom",
            "-Dcustom_allocator_header=a.hpp",
            "-Dcustom_allocator_type=A",
        ],
        "-Dglobal_allocator=custom chooses what the override uses, and -Doverride=false builds "
        "none: leave one of the two out",
    ),
    (
        ["-Doverride=false", "-Dbench=true"],
        "the bench measures the override, and -Doverride=false builds none: leave one of "
        "-Dbench=true and -Doverride=false out",
    ),
    (["-Dglobal_allocator=nonsense"], "nonsense"),
]


class Options(support.TestCase):
    def setup_build(self, *options):
        return support.run([*support.MESON_SETUP, self.scratch / "build", support.SOURCE, *options])

    def test_wrong_combinations(self):
        for options, message in WRONG:
            with self.subTest(options=options):
                result = self.setup_build(*options)
                self.assertEqual(result.returncode, 1, support.describe(result))
                errors = [line for line in result.stdout.splitlines() if "ERROR:" in line]
                self.assertEqual(len(errors), 1, support.describe(result))
                self.assertIn(message, errors[0])

    def test_without_the_override(self):
        self.assertEqual(self.setup_build("-Doverride=false", "-Dtests=false").returncode, 0)
        build = self.scratch / "build"
        self.check(["ninja", "-C", build])
        made = {path.name for path in build.rglob("*sysalloc*") if path.suffix in (".a", ".o", ".so")}
        self.assertEqual(made, {"libsysalloc.a"})


if __name__ == "__main__":
    support.main()
