"""Programs over Cached, by the object and preloaded: mistakes are named, memory checkers see every
block as without it, and statistics are printed to those who ask."""

import signal
import sys

import support

OBJECT = support.CACHED_OBJECT
SHARED = support.CACHED_SHARED

# Compiled with any standard: knows nothing of sysalloc.
MISTAKES = r"""
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

[[gnu::noinline]] static char* make(std::size_t size) {
  char* volatile block = static_cast<char*>(::operator new(size));
  return block;
}
// Enough of the same size, more than 2 MiB, for what is wrong to leave the thread's cache.
[[gnu::noinline]] static void flush(std::vector<char*>& blocks) {
  for (char* const block : blocks) ::operator delete(block, std::size_t{40});
  blocks.clear();
}

struct Base { int i; };  // no virtual destructor
struct Derived : Base { char more[200]; };

int main(int, char** argv) {
  const std::string mistake = argv[1];
  std::vector<char*> blocks;
  for (int i = 0; i < 50000; ++i) blocks.push_back(make(40));
  if (mistake == "double_free") {
    char* const block = make(40);
    ::operator delete(block);
    ::operator delete(block);
    flush(blocks);
  }
  if (mistake == "double_free_after_flush") {
    char* const block = make(40);
    ::operator delete(block);
    flush(blocks);
    ::operator delete(block);
    std::vector<char*> more;
    for (int i = 0; i < 50000; ++i) more.push_back(make(40));
    flush(more);
  }
  if (mistake == "interior") {
    ::operator delete(make(40) + 16);
    flush(blocks);
  }
  if (mistake == "interior_large") ::operator delete(make(5 << 20) + 8192);
  if (mistake == "wrong_size") {
    Base* volatile base = new Derived;
    delete base;
  }
  if (mistake == "from_malloc") ::operator delete(std::malloc(100));
  if (mistake == "overflow") {
    char* const block = make(40);
    block[40] = 1;
    ::operator delete(block);
  }
  if (mistake == "overflow_large") {
    char* const block = make(3 << 20);
    block[3 << 20] = 1;
    ::operator delete(block);
  }
  if (mistake == "use_after_free") {
    char* const block = make(40);
    ::operator delete(block, std::size_t{40});
    block[3] = 1;
  }
  if (mistake == "leak") {
    char* volatile block = make(1234);
    block[0] = 1;
    block = nullptr;
  }
  flush(blocks);
  std::puts("end");
}
"""

# What the heap says of each; without a tool that says more.
MESSAGES = {
    "double_free": r"sysalloc: block freed twice at 0x[0-9a-f]+ \(size class of 48 bytes\)",
    "double_free_after_flush": r"sysalloc: block freed twice at 0x[0-9a-f]+",
    "interior": r"sysalloc: interior pointer freed at 0x[0-9a-f]+ \(size class of 48 bytes\)",
    "interior_large": r"sysalloc: interior pointer freed at 0x[0-9a-f]+",
}
TOLERATED = ["wrong_size", "from_malloc", "nothing"]

ADDRESS = {
    "overflow": "heap-buffer-overflow",
    "overflow_large": "heap-buffer-overflow",
    "use_after_free": "heap-use-after-free",
    "double_free": "attempting double-free",
    "leak": "1234 byte(s) leaked in 1 allocation(s)",
}
MEMCHECK = {
    "overflow": "Invalid write of size 1",
    "overflow_large": "Invalid write of size 1",
    "use_after_free": "Invalid write of size 1",
    "double_free": "Invalid free()",
    "leak": "1,234 bytes in 1 blocks are definitely lost",
}


class Mistakes(support.TestCase):
    def program(self, *flags, toolchain="g++"):
        source = self.write("mistakes.cpp", MISTAKES)
        # What it does wrong is what compilers warn of.
        return self.build("-std=c++14", "-fsized-deallocation", "-g", "-w", *flags, source,
                          toolchain=toolchain)

    def assert_messages(self, command, **options):
        for mistake, pattern in MESSAGES.items():
            with self.subTest(mistake=mistake):
                result = support.run([*command, mistake], **options)
                self.assertEqual(result.returncode, -signal.SIGABRT, support.describe(result))
                self.assertRegex(result.stderr, pattern)
        for mistake in TOLERATED:
            with self.subTest(mistake=mistake):
                result = self.check([*command, mistake], **options)
                self.assertEqual(result.stderr, "")
                self.assertEqual(result.stdout, "end\n")

    def test_linked(self):
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                self.assert_messages([self.program("-O2", OBJECT, toolchain=toolchain)])

    def test_linked_statically(self):
        self.assert_messages([self.program("-O2", "-static", OBJECT)])

    def test_preloaded(self):
        env = support.environment(LD_PRELOAD=str(SHARED))
        self.assert_messages([self.program("-O0")], env=env)

    def test_address_sanitizer(self):
        for toolchain in self.each_toolchain():
            reason = support.cannot_link(toolchain, "-fsanitize=address")
            if reason is not None:
                print(f"left out: {toolchain}: {reason}", file=sys.stderr)
                continue
            program = self.program("-O1", "-fsanitize=address", OBJECT, toolchain=toolchain)
            env = support.environment(ASAN_OPTIONS="detect_leaks=1")
            for mistake, words in ADDRESS.items():
                with self.subTest(toolchain=toolchain, mistake=mistake):
                    result = support.run([program, mistake], env=env)
                    self.assertNotEqual(result.returncode, 0, support.describe(result))
                    self.assertIn(words, result.stderr, support.describe(result))

    def test_leak_sanitizer(self):
        # clang links operators of its own for it, which do not give way to any.
        reason = support.cannot_link("g++", "-fsanitize=leak")
        if reason is not None:
            self.skipTest(reason)
        result = support.run([self.program("-O1", "-fsanitize=leak", OBJECT), "leak"])
        self.assertNotEqual(result.returncode, 0, support.describe(result))
        self.assertIn(ADDRESS["leak"], result.stderr, support.describe(result))

    def test_valgrind(self):
        self.need_memcheck()
        for name, command in {
            "linked": [self.program("-O1", OBJECT)],
            "preloaded": ["env", f"LD_PRELOAD={SHARED}", self.program("-O1")],
        }.items():
            valgrind = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
                        "--trace-children=yes"]
            for mistake, words in MEMCHECK.items():
                with self.subTest(name=name, mistake=mistake):
                    result = support.run([*valgrind, *command, mistake])
                    self.assertEqual(result.returncode, 99, support.describe(result))
                    self.assertIn(words, result.stderr, support.describe(result))


USABLE = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <new>
int main() {
  int faults = 0;
  const std::size_t sizes[] = {1, 40, 5000, 100000, 1 << 20, 5 << 20};
  for (const std::size_t size : sizes) {
    // Each filled to the end, as those do that ask.
    void* const ours = ::operator new(size);
    const std::size_t usable = malloc_usable_size(ours);
    if (usable < size || usable > size + size / 4 + 16) ++faults;
    std::memset(ours, 0xff, usable);
    void* const other = ::operator new(size);
    if (malloc_usable_size(other) != usable) ++faults;
    void* const of_malloc = std::malloc(size);
    if (malloc_usable_size(of_malloc) < size) ++faults;
    ::operator delete(other);
    ::operator delete(ours);
    std::free(of_malloc);
  }
  if (malloc_usable_size(nullptr) != 0) ++faults;
  std::printf("%d faults\n", faults);
}
"""


class UsableSize(support.TestCase):
    """Some ask malloc about what came from operator new: RocksDB does."""

    def assert_no_fault(self, *command, **options):
        self.assertEqual(self.check([*command], **options).stdout, "0 faults\n")

    def test_linked(self):
        source = self.write("usable.cpp", USABLE)
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                self.assert_no_fault(self.build("-O1", source, OBJECT, toolchain=toolchain))
        self.assert_no_fault(self.build("-O1", "-static", source, OBJECT))

    def test_preloaded(self):
        program = self.build("-O1", self.write("usable.cpp", USABLE))
        self.assert_no_fault(program, env=support.environment(LD_PRELOAD=str(SHARED)))

    def test_address_sanitizer(self):
        source = self.write("usable.cpp", USABLE)
        for toolchain in self.each_toolchain():
            reason = support.cannot_link(toolchain, "-fsanitize=address")
            if reason is not None:
                print(f"left out: {toolchain}: {reason}", file=sys.stderr)
                continue
            with self.subTest(toolchain=toolchain):
                program = self.build("-O1", "-fsanitize=address", source, OBJECT,
                                     toolchain=toolchain)
                self.assert_no_fault(program)


PAGE_FAULTS = r"""
#include <sys/resource.h>
static long page_faults() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}
"""

# Takes and frees a few hundred KiB of malloc, again and again. Prints how many pages come and go.
OF_MALLOC = PAGE_FAULTS + r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
static void come_and_go() {
  static void* blocks[50];
  for (void*& block : blocks) block = std::memset(std::malloc(12000), 1, 12000);
  for (void* const block : blocks) std::free(block);
}
int main() {
  // As a vector does that grows.
  ::operator delete(::operator new(400 << 10));
  come_and_go();
  const long before = page_faults();
  for (int i = 0; i < 100; ++i) come_and_go();
  std::printf("%ld\n", page_faults() - before);
}
"""


# Large blocks, and behind some of them one of malloc. Prints how many MiB stay resident when the
# large ones are free.
BEHIND = r"""
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
static void* behind[20];
int main() {
  static void* blocks[400];
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 400; ++i) {
      blocks[i] = std::memset(::operator new(1100 << 10), 1, 1100 << 10);
      if (i % 20 == 0) behind[i / 20] = std::malloc(100 << 10);
    }
    for (void* const block : blocks) ::operator delete(block);
  }
  long size = 0, pages = 0;
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  if (std::fscanf(file, "%ld %ld", &size, &pages) != 2) return 1;
  std::printf("%ld\n", pages * sysconf(_SC_PAGESIZE) >> 20);
}
"""


# A huge block and many that are large, which come and go. Prints how many pages do.
OF_LARGE = PAGE_FAULTS + r"""
#include <cstdio>
#include <cstring>
#include <new>
static void come_and_go(std::size_t size) {
  static void* blocks[100];
  const std::size_t count = (100 << 20) / size;
  for (std::size_t i = 0; i < count; ++i) {
    blocks[i] = std::memset(::operator new(size), 1, size);
  }
  for (std::size_t i = 0; i < count; ++i) ::operator delete(blocks[i]);
}
int main() {
  come_and_go(100 << 20);
  come_and_go(1500 << 10);
  const long before = page_faults();
  for (int i = 0; i < 10; ++i) {
    come_and_go(100 << 20);
    come_and_go(1500 << 10);
  }
  std::printf("%ld\n", page_faults() - before);
}
"""


class MallocBeside(support.TestCase):
    """What the program does with malloc, beside what it does with new."""

    def test_does_not_hold_large_blocks(self):
        program = self.build("-O1", self.write("behind.cpp", BEHIND), OBJECT)
        self.assertLess(int(self.check([program]).stdout), 100)

    def test_keeps_what_it_is_told_to(self):
        program = self.build("-O1", self.write("of_large.cpp", OF_LARGE), OBJECT)
        for env in (
            {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1073741824"},
            {"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1073741824"},
        ):
            with self.subTest(env=env):
                result = self.check([program], env=support.environment(**env))
                # Not the 25,600 pages of each time.
                self.assertLess(int(result.stdout), 25600)

    def test_keeps_its_memory(self):
        source = self.write("of_malloc.cpp", OF_MALLOC)
        plain = self.build("-O1", source, output="plain")
        self.assertLess(int(self.check([plain]).stdout), 100)
        linked = self.build("-O1", source, OBJECT, output="linked")
        self.assertLess(int(self.check([linked]).stdout), 100)
        for library in (SHARED, support.MALLOC_SHARED):
            with self.subTest(library=library.name):
                env = support.environment(LD_PRELOAD=str(library))
                self.assertLess(int(self.check([plain], env=env).stdout), 100)


# Takes all that is there in large pieces and then, from what is left between these, small ones:
# prints how many of these it got, of each of a few alignments and sizes. Then all is there again.
# (How large the pieces are that are left depends on where the system puts the program: now and then
# none holds 3 KiB.)
REMNANTS = r"""
#include <sys/resource.h>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <new>
struct Block { Block* next; };
template <std::size_t size, std::size_t align = 16> struct All {
  Block* first = nullptr;
  bool take() {
    void* const ptr = operator new(size, std::align_val_t(align), std::nothrow);
    if (ptr == nullptr) return false;
    std::memset(ptr, 1, size);
    first = new (ptr) Block{first};
    return true;
  }
  int take_all() {
    int count = 0;
    while (take()) ++count;
    return count;
  }
  void give(bool with_size) {
    while (first != nullptr) {
      Block* const block = first;
      first = block->next;
      if (with_size) operator delete(block, size, std::align_val_t(align));
      else operator delete(block, std::align_val_t(align));
    }
  }
};
int main() {
  All<2300000> large;
  All<900000> middle;
  All<300, 128> few;
  All<64> small;
  const rlimit limit = {100 << 20, 100 << 20};
  setrlimit(RLIMIT_AS, &limit);
  for (int round = 0; round < 4; ++round) {
    large.take_all();
    middle.take_all();
    int aligned = 0;
    while (aligned < 20 && few.take()) ++aligned;
    std::printf("%d %d\n", aligned, small.take_all());
    small.give(round % 2 == 0);
    few.give(round % 2 == 0);
    middle.give(true);
    large.give(true);
  }
  return 0;
}
"""


class Remnants(support.TestCase):
    def test_are_served(self):
        program = self.build("-std=c++17", "-O1", self.write("remnants.cpp", REMNANTS))
        libraries = [support.CACHED_SHARED, support.MALLOC_SHARED]
        for library in filter(lambda library: library.exists(), libraries):
            with self.subTest(library=library.name):
                result = self.check([program], env=support.environment(LD_PRELOAD=str(library)))
                for line in result.stdout.splitlines():
                    aligned, small = map(int, line.split())
                    self.assertEqual(aligned, 20, support.describe(result))
                    self.assertGreater(small, 100, support.describe(result))
                self.assertEqual(len(result.stdout.splitlines()), 4)


# Takes blocks until there is no memory for more, the last ones from the C library alone, and frees
# all but one of these: the heap has room for what that is to grow to, and the C library has none.
GROWS_AT_LIMIT = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int main(int count, char** arguments) {
  enum { size = 3000, most = 100000 };
  static char* blocks[most];
  free(malloc(size));
  long pages = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  if (count != 2 || fscanf(file, "%ld", &pages) != 1) return 1;
  fclose(file);
  const size_t now = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
  const struct rlimit limit = {now + ((size_t)atoi(arguments[1]) << 20), RLIM_INFINITY};
  setrlimit(RLIMIT_AS, &limit);
  int taken = 0;
  for (; taken != most; ++taken) {
    if ((blocks[taken] = malloc(size)) == NULL) break;
    memset(blocks[taken], 7, size);
  }
  if (taken < 2 || taken == most) return 2;
  const int last = taken - 1;
  for (int i = 0; i != last; ++i) free(blocks[i]);
  char* const grown = realloc(blocks[last], 2 << 20);
  if (grown == NULL) return 3;
  for (int i = 0; i < size; ++i) {
    if (grown[i] != 7) return 4;
  }
  memset(grown, 1, 2 << 20);
  free(grown);
  return 0;
}
"""


class AtLimit(support.TestCase):
    def test_a_block_of_the_c_library_grows(self):
        if not support.MALLOC_SHARED.exists():
            self.skipTest("the library that replaces malloc is not built")
        source = self.write("grows.c", GROWS_AT_LIMIT)
        program = self.build("-x", "c", "-O1", "-fno-builtin", source)
        env = support.environment(LD_PRELOAD=str(support.MALLOC_SHARED))
        for mebibytes in (6, 10, 14):
            with self.subTest(mebibytes=mebibytes):
                self.check([program, str(mebibytes)], env=env)


# A library that has Cached for itself, in a host that closes it while a thread lives that used it.
LIBRARY = r"""
struct Node { Node* next; char data[40]; };
extern "C" __attribute__((visibility("default"))) void use() {
  Node* list = nullptr;
  for (int i = 0; i < 1000; ++i) list = new Node{list, {}};
  while (list != nullptr) {
    Node* const next = list->next;
    delete list;
    list = next;
  }
}
"""
HOST = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
static pthread_barrier_t used, closed;
static void* run(void* use) {
  ((void (*)(void))use)();
  pthread_barrier_wait(&used);
  pthread_barrier_wait(&closed);
  return NULL;
}
int main(int argc, char** argv) {
  /* A key for each that is asked for, so that the library finds none. */
  for (int i = 0; i < atoi(argv[2]); ++i) {
    pthread_key_t key;
    pthread_key_create(&key, NULL);
  }
  void* const library = dlopen(argv[1], RTLD_NOW);
  if (argc != 3 || library == NULL) return 1;
  pthread_t thread;
  pthread_barrier_init(&used, NULL, 2);
  pthread_barrier_init(&closed, NULL, 2);
  if (pthread_create(&thread, NULL, run, dlsym(library, "use")) != 0) return 2;
  pthread_barrier_wait(&used);
  if (dlclose(library) != 0) return 3;
  puts(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == NULL ? "it is gone" : "it is there");
  pthread_barrier_wait(&closed);
  pthread_join(thread, NULL);
  return 0;
}
"""

# Uses the library time and again, and says by how many KiB the process grew each time.
USES_AGAIN = r"""
#include <dlfcn.h>
#include <stdio.h>
static long pages(void) {
  long count = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%ld", &count) != 1) return -1;
  fclose(file);
  return count;
}
int main(int argc, char** argv) {
  long before = 0;
  for (int i = 0; i < 20; ++i) {
    void* const library = dlopen(argv[argc - 1], RTLD_NOW);
    if (library == NULL) return 1;
    ((void (*)(void))dlsym(library, "use"))();
    if (dlclose(library) != 0) return 2;
    if (i == 9) before = pages();
  }
  if (before <= 0) return 3;
  printf("%ld\n", (pages() - before) / 10 * 4);
  return 0;
}
"""


class ClosedLibrary(support.TestCase):
    def host_and_library(self, host=HOST):
        # Nothing that would keep it loaded, such as a C++ library of the host's.
        library = self.build("-shared", "-fPIC", "-O1", "-fvisibility=hidden",
                             "-static-libstdc++", "-static-libgcc",
                             self.write("library.cpp", LIBRARY), OBJECT, output="library.so")
        host = self.build("-O1", "-Wl,--as-needed", "-x", "c", self.write("host.c", host))
        return [host, library]

    def test_thread_ends_after_it_is_gone(self):
        self.assertEqual(self.check([*self.host_and_library(), "0"]).stdout, "it is gone\n")

    def test_no_key_for_data_of_threads_is_left(self):
        self.assertEqual(self.check([*self.host_and_library(), "2000"]).stdout, "it is gone\n")

    def test_its_heap_goes_with_it(self):
        grown = int(self.check(self.host_and_library(USES_AGAIN)).stdout)
        # Not the 4 MiB that a heap takes at least.
        self.assertLess(grown, 1024)


PLUGIN = r"""
#include <sstream>
#include <string>
extern "C" int use(int count) {
  std::ostringstream stream;
  for (int i = 0; i < count; ++i) stream << std::string(100, 'x');
  return static_cast<int>(stream.str().size());
}
"""

# Knows nothing of C++, so that the plugins bring it.
LOADS = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    void* const plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) return 1;
    int (*const use)(int) = (int (*)(int))dlsym(plugin, "use");
    printf("%d\n", use(1000));
  }
  return 0;
}
"""


class Plugins(support.TestCase):
    def test_each_with_a_heap_and_a_library_of_its_own(self):
        source = self.write("plugin.cpp", PLUGIN)
        flags = ["-shared", "-fPIC", "-O1", "-static-libstdc++", "-static-libgcc"]
        plugins = [
            self.build(*flags, source, *objects, output=name)
            for name, objects in (("a.so", [OBJECT]), ("b.so", [OBJECT]), ("c.so", []))
        ]
        host = self.build("-O1", "-x", "c", self.write("loads.c", LOADS))
        self.assertEqual(self.check([host, *plugins]).stdout, "100000\n" * 3)


# A heap of its own, which starts at a call that asks for a key: the thread that does so forks there,
# and then another one does, before the start goes on. By a constructor that runs before all others,
# for else the heap is started when the program is.
STARTS = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <cstdio>
#include <sysalloc/cached.hpp>
#include <thread>
struct Backend : sysalloc::System {};
bool serves(std::size_t size) {
  const auto layout = sysalloc::Layout::from_size_align_unchecked(size, 8);
  const sysalloc::Cached<Backend> heap;
  void* const ptr = heap.alloc(layout);
  heap.dealloc(ptr, layout);
  return ptr != nullptr;
}
bool child_serves() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(serves(100) && serves(2 << 20) && serves(100) ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && status == 0;
}
constinit std::atomic<bool> watched{false}, starting{false}, forked{false};
constinit bool of_starter = false, of_another = false;
extern "C" int pthread_key_create(pthread_key_t* key, void (*end)(void*)) noexcept {
  if (watched.exchange(false)) {
    of_starter = child_serves();
    starting = true;
    while (!forked) std::this_thread::yield();
  }
  using Create = int(pthread_key_t*, void (*)(void*));
  return reinterpret_cast<Create*>(dlsym(RTLD_NEXT, "pthread_key_create"))(key, end);
}
[[gnu::constructor(101)]] void first() {
  watched = true;
  std::thread starter([] { serves(100); });
  while (!starting) std::this_thread::yield();
  // While it is at it, this thread is served, too.
  const bool meanwhile = serves(100) && serves(2 << 20);
  of_another = child_serves();
  forked = true;
  starter.join();
  std::printf("%d %d %d %d\n", of_starter, meanwhile, of_another, child_serves());
}
int main() {}
"""


class Start(support.TestCase):
    def test_fork_while_a_heap_starts(self):
        source = self.write("starts.cpp", STARTS)
        flags = ["-std=c++23", "-O1", "-pthread", support.INCLUDE]
        program = self.build(*flags, source, support.LIBRARY)
        self.assertEqual(self.check([program], timeout=300).stdout, "1 1 1 1\n")


# A log with a lock, and handlers of fork that take it: registered as early as a program can, by the
# constructor of an object. A thread logs all the time.
LOGS = r"""
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>
struct Log {
  Log();
  void add(int i) {
    pthread_mutex_lock(&mutex);
    if (lines.size() > 50) lines.clear();
    lines.emplace_back(20000, static_cast<char>('a' + i % 26));
    pthread_mutex_unlock(&mutex);
  }
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  std::vector<std::string> lines;
} logger;
Log::Log() {
  pthread_atfork([] { pthread_mutex_lock(&logger.mutex); },
                 [] { pthread_mutex_unlock(&logger.mutex); },
                 [] { pthread_mutex_unlock(&logger.mutex); });
}
int main() {
  std::thread([] { for (int i = 0;; ++i) logger.add(i); }).detach();
  for (int i = 0; i < 500; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      logger.add(i);
      _exit(0);
    }
    int status = 1;
    if (waitpid(child, &status, 0) != child || status != 0) return 1;
  }
  std::puts("done");
  std::fflush(stdout);
  _exit(0);
}
"""

# POSIX allows fork in the handler of a signal, which may come while the program allocates.
FORKS_IN_HANDLER = r"""
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <vector>
static volatile std::sig_atomic_t forks;
int main() {
  std::signal(SIGALRM, [](int) {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    forks = forks + 1;
  });
  const itimerval every{{0, 1000}, {0, 1000}};
  setitimer(ITIMER_REAL, &every, nullptr);
  std::vector<char*> blocks;
  while (forks < 500) {
    for (int i = 0; i < 100; ++i) blocks.push_back(new char[20000]);
    for (char* const block : blocks) delete[] block;
    blocks.clear();
  }
  std::puts("done");
}
"""

# Includes what the object was compiled from, too.
COUNTS = r"""
#include <cstdio>
#include <string>
#include <sysalloc/cached.hpp>
#include <thread>
#include <vector>
int main() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([] {
      std::vector<std::string> strings;
      for (std::size_t j = 0; j < 2000; ++j) strings.emplace_back(j % 300, 'x');
    });
  }
  for (std::thread& thread : threads) thread.join();
  sysalloc::Cached<>::purge();
  std::puts(sysalloc::Cached<>::stats().mapped != 0 ? "mapped" : "nothing");
}
"""

THE_LINE = """#include <sysalloc/cached.hpp>
#include <sysalloc/global_allocator.hpp>
SYSALLOC_GLOBAL_ALLOCATOR(sysalloc::Cached<>);
"""


class Forks(support.TestCase):
    """The object comes last: what it does when it is loaded comes first all the same."""

    def assert_done(self, source):
        for toolchain in self.each_toolchain():
            with self.subTest(toolchain=toolchain):
                program = self.build("-O1", "-pthread", source, OBJECT, toolchain=toolchain)
                self.assertEqual(self.check([program], timeout=120).stdout, "done\n")

    def test_handlers_that_were_registered_early(self):
        self.assert_done(self.write("logs.cpp", LOGS))

    def test_handlers_that_were_registered_early_over_the_line_of_source(self):
        logs = self.write("logs.cpp", LOGS)
        line = self.write("line.cpp", THE_LINE)
        flags = ["-std=c++23", "-O1", "-pthread", support.INCLUDE]
        program = self.build(*flags, logs, line, support.LIBRARY)
        self.assertEqual(self.check([program], timeout=120).stdout, "done\n")

    def test_in_the_handler_of_a_signal(self):
        self.assert_done(self.write("forks.cpp", FORKS_IN_HANDLER))


class ThreadSanitizer(support.TestCase):
    def test_program_with_it_and_object_without(self):
        flags = ["-std=c++23", "-O1", "-g", "-pthread", "-fsanitize=thread", support.INCLUDE]
        nothing = self.write("nothing.cpp", "int main() {}")
        try:
            self.check([self.build(*flags, nothing)])
        except AssertionError:
            self.skipTest("ThreadSanitizer does not work here")
        source = self.write("counts.cpp", COUNTS)
        # Which definition of a function the linker keeps depends on the order.
        for inputs in ([source, OBJECT], [OBJECT, source]):
            with self.subTest(inputs=inputs):
                program = self.build(*flags, *inputs, support.LIBRARY)
                self.assertEqual(self.check([program]).stdout, "mapped\n")


KEEPS = r"""
#include <cstdio>
#include <cstdlib>
#include <new>
struct Kept {
  void* small;
  void* large;
};
Kept kept;
int main() {
  for (int i = 0; i < 1000; ++i) ::operator delete(::operator new(100));
  kept = {::operator new(1000), ::operator new(3 << 20)};
  std::fputs("main ends\n", stderr);
}
"""


# A program with two heaps, which closes its standard error in a handler of its own, as GNU's tools
# do; or opens another file before, which gets the descriptor that is free. Its child has no
# descriptor that it knows nothing of.
CLOSES = r"""
#include <fcntl.h>
#include <sys/wait.h>
#include <sysalloc/cached.hpp>
#include <unistd.h>
#include <cstdlib>
struct Other : sysalloc::System {};
constexpr auto layout = sysalloc::Layout::from_size_align_unchecked(1000, 8);
int main(int, char** arguments) {
  if (sysalloc::Cached<>{}.alloc(layout) == nullptr) return 1;
  if (sysalloc::Cached<Other>{}.alloc(layout) == nullptr) return 1;
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 3; i < 1024; ++i) {
      if (fcntl(i, F_GETFD) != -1) _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) return 2;
  if (arguments[1] == nullptr) return std::atexit([] { close(2); });
  close(2);
  return open(arguments[1], O_CREAT | O_WRONLY, 0600) == 2 ? 0 : 3;
}
"""


class Statistics(support.TestCase):
    def assert_table(self, command, **environment):
        result = self.check([*command], env=support.environment(**environment))
        lines = result.stderr.splitlines()
        self.assertEqual(lines[0], "main ends", support.describe(result))
        if environment:
            self.assertRegex(lines.pop(1), rf"^sysalloc: at the end of {command[0].name} \(\d+\)$")
        self.assertEqual(lines[1], "sysalloc: the heap of Cached")
        values = {}
        for line in lines[2:9]:
            name, number, unit = line.split(maxsplit=2)
            values[name] = int(number)
            self.assertTrue(unit.startswith("bytes"), line)
        self.assertEqual(
            set(values), {"live", "large", "cached", "free", "dirty", "mapped", "metadata"}
        )
        self.assertEqual(values["large"], 3 << 20)
        self.assertGreaterEqual(values["live"], (3 << 20) + 1000)
        self.assertGreaterEqual(values["mapped"], values["live"] + values["cached"])
        rows = {int(line.split()[0]): line.split() for line in lines[10:]}
        # 1000 bytes are of the class of 1024, and this one is not freed.
        self.assertGreaterEqual(int(rows[1024][1]), 1)
        self.assertEqual(len(rows[1024]), 5)

    def test_of_a_program_that_closes_its_standard_error(self):
        flags = ["-std=c++23", "-O1", support.INCLUDE]
        program = self.build(*flags, self.write("closes.cpp", CLOSES), support.LIBRARY)
        other = self.scratch / "other"
        for arguments in ([], [str(other)]):
            with self.subTest(arguments=arguments):
                result = self.check(
                    [program, *arguments], env=support.environment(SYSALLOC_STATS="1")
                )
                self.assertEqual(result.stderr.count("sysalloc: the heap of Cached\n"), 2)
        self.assertEqual(other.read_text(), "")

    def test_asked_for(self):
        source = self.write("keeps.cpp", KEEPS)
        asked = {"SYSALLOC_STATS": "1"}
        self.assert_table([self.build("-O1", source, OBJECT)], **asked)
        self.assert_table([self.build("-O1", "-static", source, OBJECT)], **asked)
        self.assert_table([self.build("-O1", source)], LD_PRELOAD=str(SHARED), **asked)

    def test_printed_by_the_program(self):
        prints = KEEPS.replace("stderr);", "stderr);  sysalloc::print(sysalloc::Cached<>::stats());")
        source = self.write("prints.cpp", "#include <sysalloc/cached.hpp>\n" + prints)
        flags = ["-std=c++23", "-O1", support.INCLUDE]
        self.assert_table([self.build(*flags, source, OBJECT, support.LIBRARY)])

    def test_not_asked_for(self):
        program = self.build("-O1", self.write("keeps.cpp", KEEPS), OBJECT)
        for value in (None, "", "0", "11", "yes"):
            with self.subTest(value=value):
                env = {} if value is None else {"SYSALLOC_STATS": value}
                result = self.check([program], env=support.environment(**env))
                self.assertEqual(result.stderr, "main ends\n")


# Counts, and adds nothing that Cached's own fast path would miss.
DERIVED = r"""
#include <cstdio>
#include <new>
#include <sysalloc/sysalloc.hpp>
struct Mine : sysalloc::Cached<> {
  static inline int allocs = 0, deallocs = 0;
  void* alloc(sysalloc::Layout layout) const noexcept {
    ++allocs;
    return Cached::alloc(layout);
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    ++deallocs;
    Cached::dealloc(ptr, layout);
  }
};
SYSALLOC_GLOBAL_ALLOCATOR(Mine);
int main() {
  const int allocs = Mine::allocs, deallocs = Mine::deallocs;
  for (int i = 0; i < 100; ++i) ::operator delete(::operator new(40), std::size_t{40});
  std::printf("%d %d\n", Mine::allocs - allocs, Mine::deallocs - deallocs);
}
"""


class Derived(support.TestCase):
    def test_sees_every_call(self):
        source = self.write("derived.cpp", DERIVED)
        for flags in ([], ["-O2"]):
            program = self.build("-std=c++23", *flags, support.INCLUDE, source, support.LIBRARY)
            self.assertEqual(self.check([program]).stdout, "100 100\n")


if __name__ == "__main__":
    support.main()
