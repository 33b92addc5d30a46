"""What the built files define and export: the 20 replaceable forms, and nothing by accident."""

import platform
import sys

import support

# The functions of global.hpp, sysalloc::alloc and its like.
GLOBAL_FUNCTIONS = {
    "_ZN8sysalloc5allocENS_6LayoutE",
    "_ZN8sysalloc12alloc_zeroedENS_6LayoutE",
    "_ZN8sysalloc7deallocEPvNS_6LayoutE",
    f"_ZN8sysalloc7reallocEPvNS_6LayoutE{support.SIZE_T}",
    "_ZN8sysalloc7reallocEPvNS_6LayoutES1_",
}


def forms(symbols):
    """Of these symbols the operators new and delete, {name: nm's letter}."""
    prefixes = ("_Znw", "_Zna", "_Zdl", "_Zda")
    return {name: kind for name, (_, kind) in symbols.items() if name.startswith(prefixes)}


class Symbols(support.TestCase):
    def assert_all_forms(self, symbols, where):
        found = forms(symbols)
        self.assertEqual(len(support.REPLACEABLE_FORMS), 20)
        for name, signature in support.REPLACEABLE_FORMS.items():
            self.assertEqual(found.get(name), "T", f"{where}: {signature}, {name}")
        self.assertEqual(set(found), set(support.REPLACEABLE_FORMS), where)

    def test_object_defines_the_20_forms(self):
        self.assert_all_forms(support.defined_symbols(support.OBJECT), support.OBJECT)

    def test_archive_defines_the_20_forms_in_one_member(self):
        self.assert_all_forms(support.defined_symbols(support.ARCHIVE), support.ARCHIVE)
        members = self.check(["ar", "t", support.ARCHIVE]).stdout.split()
        self.assertEqual(len(members), 1, members)

    def test_shared_library_exports_the_20_forms(self):
        symbols = support.defined_symbols(support.SHARED, dynamic=True)
        self.assert_all_forms(symbols, support.SHARED)

    def test_shared_library_exports_nothing_else(self):
        exported = set(support.defined_symbols(support.SHARED, dynamic=True))
        self.assertEqual(exported - set(support.REPLACEABLE_FORMS), GLOBAL_FUNCTIONS)

    def test_shared_library_of_cached_stands_before_the_c_library_where_it_must(self):
        symbols = support.defined_symbols(support.CACHED_SHARED, dynamic=True)
        self.assert_all_forms(symbols, support.CACHED_SHARED)
        others = set(symbols) - set(support.REPLACEABLE_FORMS)
        self.assertEqual(others, GLOBAL_FUNCTIONS | {"malloc_usable_size", "dlopen", "dlmopen"})

    def test_shared_libraries_need_the_c_library_alone(self):
        for library in (support.SHARED, support.CACHED_SHARED, support.MALLOC_SHARED):
            if not library.exists():
                print(f"left out: {library.name} is not built here", file=sys.stderr)
                continue
            with self.subTest(library=library.name):
                needed = support.needed_libraries(library)
                if any("san.so" in name or "clang_rt" in name for name in needed):
                    self.skipTest("a sanitizer brings libraries of its own")
                others = [name for name in needed if not name.startswith(("libc.", "ld-linux"))]
                self.assertEqual((bool(needed), others), (True, []))

    def test_object_shares_no_name_with_programs(self):
        # Whatever else is visible to the linker is in this library's namespace, so that no program
        # can have the same name.
        for name, (_, kind) in support.defined_symbols(support.OBJECT).items():
            if kind.isupper() or kind in "vwu":
                ours = "8sysalloc" in name or name in support.REPLACEABLE_FORMS
                # And what g++ puts into every object, in a section that is merged.
                compiler = name.startswith(("DW.ref.", "__x86.get_pc_thunk."))
                self.assertTrue(ours or compiler, f"{name} ({kind})")

    def test_operators_begin_where_they_are_fastest(self):
        if platform.machine() != "x86_64" or support.CROSS:
            self.skipTest("only of x86-64 is anything promised (detail/compiler.hpp)")
        line = 64
        symbols = support.defined_symbols(support.CACHED_SHARED, dynamic=True)
        for name in support.REPLACEABLE_FORMS:
            with self.subTest(name=name):
                into_line = 16 if name in {"_ZdlPvm", "_ZdaPvm"} else 0
                self.assertEqual(symbols[name][0] % line, into_line)

    def test_library_defines_no_operator(self):
        self.assertEqual(forms(support.defined_symbols(support.LIBRARY)), {})


if __name__ == "__main__":
    support.main()
