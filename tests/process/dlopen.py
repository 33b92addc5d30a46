"""Modules that are loaded with RTLD_DEEPBIND, as PHP loads its extensions and Apache its modules,
while a shared library of Cached is preloaded."""

import support

# Loads the module of that name and hands it what the C library and the C++ library allocated.
HOST = r"""
#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
int main(int argc, char** argv) {
  const int mode = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
  void* const module = argc == 2 ? dlopen(argv[1], mode) : dlmopen(LM_ID_BASE, argv[1], mode);
  if (module == nullptr) {
    std::printf("%s\n", dlerror());
    return 1;
  }
  auto* const use = reinterpret_cast<char* (*)(char*, std::string*&)>(dlsym(module, "use"));
  for (int i = 1; i <= 1000; ++i) {
    auto* text = new std::string(100, 'x');
    char* const copy = use(strdup(text->c_str()), text);
    if (std::strlen(copy) != 100 || text->size() != 1100) return 2;
    std::free(copy);
    delete text;
  }
  std::puts("done");
}
"""

# Frees what it is given, and gives back what it allocated.
MODULE = r"""
#include <cstdlib>
#include <cstring>
#include <string>
extern "C" char* use(char* given, std::string*& text) {
  char* const copy = strdup(given);
  std::free(given);
  auto* const longer = new std::string(*text);
  for (int i = 0; i < 1000; ++i) longer->push_back('y');
  delete text;
  text = longer;
  return copy;
}
"""


class DeepBind(support.TestCase):
    SHARED = support.CACHED_SHARED

    def setUp(self):
        super().setUp()
        self.env = support.environment(LD_PRELOAD=str(self.SHARED))

    def build_module(self, name):
        (self.scratch / name).parent.mkdir(exist_ok=True)
        # The C++ library's own sized deletes call the others by name, and so get here all the same.
        return self.build("-shared", "-fPIC", "-O1", "-fno-sized-deallocation",
                          self.write("module.cpp", MODULE), output=name)

    def build_host(self, *flags):
        return self.build("-O1", self.write("host.cpp", HOST), *flags)

    def test_blocks_cross_in_both_directions(self):
        module = self.build_module("module.so")
        self.assertEqual(self.check([self.build_host(), module], env=self.env).stdout, "done\n")

    def test_through_dlmopen(self):
        module = self.build_module("module.so")
        host = [self.build_host(), module, "dlmopen"]
        self.assertEqual(self.check(host, env=self.env).stdout, "done\n")

    def test_a_module_is_looked_for_where_its_caller_says(self):
        self.build_module("modules/module.so")
        host = self.build_host("-Wl,--enable-new-dtags,-rpath,$ORIGIN/modules")
        self.assertEqual(self.check([host, "module.so"], env=self.env).stdout, "done\n")

    def test_a_module_that_is_not_there(self):
        host = self.build_host()
        alone = support.run([host, "module.so"])
        preloaded = support.run([host, "module.so"], env=self.env)
        self.assertEqual(preloaded.returncode, 1, support.describe(preloaded))
        self.assertIn("module.so", preloaded.stdout)
        self.assertEqual(preloaded.stdout, alone.stdout)


class DeepBindMalloc(DeepBind):
    SHARED = support.MALLOC_SHARED


if __name__ == "__main__":
    support.main()
