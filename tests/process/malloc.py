"""The shared library that replaces malloc too: programs in C and C++ over it, threads and forks in
the middle of what the C library does, memory checkers, mistakes, and programs of the system."""

import re
import signal
import sys

import preload
import support

SHARED = support.MALLOC_SHARED
PRELOADED = {"LD_PRELOAD": str(SHARED)}

# The compiler must not know what the functions do.
C_FLAGS = ["-std=gnu17", "-O1", "-w", "-fno-builtin", "-pthread", "-x", "c"]


def live_bytes(result):
    """Of the table that a program printed at its end, with SYSALLOC_STATS=1."""
    live = next(line for line in result.stderr.splitlines() if "live" in line)
    return int(live.split()[1])


class Functions(support.TestCase):
    """Every one does what malloc(3) says; glibc's pass the same checks."""

    def assert_no_fault(self, *command, **environment):
        result = self.check([*command], env=support.environment(**environment))
        self.assertEqual(result.stdout, "0 faults\n")
        return result

    def program(self):
        return self.build(*C_FLAGS, support.PROGRAMS / "malloc.c")

    def test_glibc(self):
        self.assert_no_fault(self.program())

    def test_preloaded(self):
        result = self.assert_no_fault(self.program(), SYSALLOC_STATS="1", **PRELOADED)
        # The program has no C++: what the table has came from malloc.
        self.assertGreater(live_bytes(result), 0, support.describe(result))

    def test_linked(self):
        program = self.build(*C_FLAGS, support.PROGRAMS / "malloc.c", "-x", "none", SHARED,
                             f"-Wl,-rpath,{SHARED.parent}")
        self.assertIn("sysalloc", self.assert_no_fault(program, SYSALLOC_STATS="1").stderr)

    def test_symbols(self):
        symbols = support.defined_symbols(SHARED, dynamic=True)
        for name in ("malloc", "free", "calloc", "realloc", "reallocarray", "aligned_alloc",
                     "posix_memalign", "memalign", "valloc", "pvalloc", "malloc_usable_size",
                     "cfree", "malloc_trim", "free_sized", "free_aligned_sized",
                     *support.REPLACEABLE_FORMS):
            with self.subTest(name=name):
                self.assertEqual(symbols.get(name, (0, None))[1], "T")


class Preload(preload.Preload):
    """All that holds of the library for System."""

    SHARED = SHARED


# Blocks of malloc, new and C functions, each freed by what is not its own: wrong, and frequent.
MIXED = r"""
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>
int main() {
  for (int round = 0; round < 3; ++round) {
    std::vector<void*> blocks;
    for (std::size_t size = 1; size < 4000000; size += size / 3 + 1) {
      blocks.push_back(std::malloc(size));
      blocks.push_back(::operator new(size));
      blocks.push_back(::operator new(size, std::align_val_t{64}));
      blocks.push_back(strdup("text"));
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (i % 4 == 0) {
        ::operator delete(blocks[i]);
      } else if (i % 8 < 4) {
        std::free(blocks[i]);
      } else {
        std::free(std::realloc(blocks[i], 100));
      }
    }
  }
  std::puts("done");
}
"""

# What of the program is in memory, in KiB.
RESIDENT = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static long resident(void) {
  long size = 0, pages = 0;
  FILE* const file = fopen("/proc/self/statm", "r");
  if (fscanf(file, "%ld %ld", &size, &pages) != 2) abort();
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}
"""

# Threads that come and go, each of which does what run() says, after prepare(). Prints by how many
# KiB the program grew after the first of them.
THREADS = RESIDENT + r"""
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
static void prepare(void);
static void* run(void* unused);
static void round_of(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t threads[4];
    for (int j = 0; j < 4; ++j) {
      if (pthread_create(&threads[j], NULL, run, NULL) != 0) abort();
    }
    for (int j = 0; j < 4; ++j) pthread_join(threads[j], NULL);
  }
}
int main(void) {
  prepare();
  round_of(100);
  const long before = resident();
  round_of(1000);
  printf("%ld\n", resident() - before);
  return 0;
}
"""

# What makes the C library allocate for a thread: many keys, errors of the loader.
MANY_KEYS = THREADS + r"""
enum { key_count = 100 };
static pthread_key_t keys[key_count];
static void prepare(void) {
  for (int i = 0; i < key_count; ++i) pthread_key_create(&keys[i], free);
}
static void* run(void* unused) {
  for (int i = 0; i < key_count; ++i) pthread_setspecific(keys[i], malloc(50));
  if (dlopen("/there/is/none", RTLD_NOW) == NULL) dlerror();
  dlopen("/there/is/none/either", RTLD_NOW);
  char* const text = malloc(300);
  strerror_r(12345, text, 300);
  free(text);
  return unused;
}
"""

# A key whose destructor sets it again until the last round, and allocates then.
LAST_ROUND = THREADS + r"""
static pthread_key_t key;
static void end(void* value) {
  char* const round = value;
  if (++*round < 4) {
    pthread_setspecific(key, round);
    return;
  }
  for (size_t size = 1; size < 5000; size += 100) free(memset(malloc(size), 1, size));
  free(round);
}
static void prepare(void) { pthread_key_create(&key, end); }
static void* run(void* unused) {
  pthread_setspecific(key, calloc(1, 1));
  return unused;
}
"""

# A library that takes all keys that the C library serves without allocating, before the heap can
# have one.
KEYS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
int pthread_key_create(pthread_key_t* key, void (*end)(void*)) {
  static int taken;
  int (*const next)(pthread_key_t*, void (*)(void*)) = dlsym(RTLD_NEXT, "pthread_key_create");
  for (; taken < 100; ++taken) next(key, 0);
  return next(key, end);
}
"""

FORKS = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void work(unsigned turn) {
  void* blocks[64];
  for (int i = 0; i < 64; ++i) {
    blocks[i] = malloc((turn * 7919u + (unsigned)i * 104729u) % 100000u);
    if (i % 7 == 0) blocks[i] = realloc(blocks[i], 3000000);
  }
  for (int i = 0; i < 64; ++i) free(blocks[i]);
}
static void* run(void* unused) {
  for (unsigned turn = 0;; ++turn) work(turn);
  return unused;
}
static void* end_at_once(void* unused) { return unused; }
int main(void) {
  pthread_t thread;
  for (int i = 0; i < 3; ++i) pthread_create(&thread, NULL, run, NULL);
  for (unsigned i = 0; i < 300; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      work(i);
      if (pthread_create(&thread, NULL, end_at_once, NULL) != 0) _exit(1);
      pthread_join(thread, NULL);
      exit(0);
    }
    int status = 1;
    if (waitpid(child, &status, 0) != child || status != 0) return 1;
  }
  puts("done");
  fflush(stdout);
  _exit(0);
}
"""

# A thread that only frees, without address space for a cache of its own.
FREES = r"""
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
static void* blocks[10000];
static pthread_barrier_t barrier;
static int changed;
static void* run(void* unused) {
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 10000; ++i) {
    errno = 0;
    free(blocks[i]);
    changed += errno != 0;
  }
  return unused;
}
int main(void) {
  for (int i = 0; i < 10000; ++i) blocks[i] = malloc(100);
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_t thread;
  pthread_create(&thread, NULL, run, NULL);
  const struct rlimit limit = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_AS, &limit);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  printf("%d\n", changed);
  return 0;
}
"""

# Blocks that were allocated when there was memory shrink when there is none.
SHRINKS = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
static char* blocks[3];
int main(void) {
  const size_t sizes[] = {300000, 900000, 200 << 20};
  for (int i = 0; i < 3; ++i) blocks[i] = memset(malloc(sizes[i]), 1, sizes[i]);
  const struct rlimit limit = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_AS, &limit);
  errno = 0;
  for (int i = 0; i < 3; ++i) {
    blocks[i] = realloc(blocks[i], sizes[i] / 10);
    if (blocks[i] == NULL || blocks[i][sizes[i] / 10 - 1] != 1) return 1;
  }
  printf("%d\n", errno);
  return 0;
}
"""

# How often a block moves that grows from 32 KiB to 1 MiB by 4 KiB at a time, and what it holds then.
GROWS = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  enum { step = 4096, first = 32 << 10, last = 1 << 20 };
  char* block = memset(malloc(first), 0, first);
  int moves = 0;
  for (size_t size = first; size < last; size += step) {
    const uintptr_t before = (uintptr_t)block;
    block = realloc(block, size + step);
    moves += (uintptr_t)block != before;
    memset(block + size, (int)(size / step), step);
  }
  for (size_t size = first; size < last; ++size) {
    if ((unsigned char)block[size] != (unsigned char)(size / step)) return 1;
  }
  printf("%d\n", moves);
  return 0;
}
"""

# A thread with a cancellation under way frees blocks of glibc's that lie where the heap had memory:
# of the kind that ld.so and the C library allocated before the heap was there.
CANCELLED = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
void* __libc_malloc(size_t size);
static void* blocks[20000];
static void* run(void* unused) {
  pthread_cancel(pthread_self());
  for (int i = 0; i < 20000; ++i) free(blocks[i]);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  puts("done");
  fflush(stdout);
  return unused;
}
int main(void) {
  for (int round = 0; round < 3; ++round) {
    void* large[8];
    for (int i = 0; i < 8; ++i) large[i] = memset(malloc(6 << 20), 1, 6 << 20);
    blocks[round] = __libc_malloc(100);
    for (int i = 0; i < 8; ++i) free(large[i]);
  }
  for (int i = 3; i < 20000; ++i) blocks[i] = __libc_malloc(1000);
  pthread_t thread;
  pthread_create(&thread, NULL, run, NULL);
  pthread_join(thread, NULL);
  return 0;
}
"""

# Under a limit of address space: everything until there is no more, several times.
LIMITED = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
struct Block { struct Block* next; };
int main(void) {
  const struct rlimit limit = {400 << 20, 400 << 20};
  setrlimit(RLIMIT_AS, &limit);
  const size_t sizes[] = {40, 5000, 200000, 3000000};
  for (int round = 0; round < 8; ++round) {
    const size_t size = sizes[round % 4];
    struct Block* all = NULL;
    size_t bytes = 0;
    errno = 0;
    for (;;) {
      struct Block* const block = malloc(size);
      if (block == NULL) break;
      memset(block, 1, size);
      block->next = all;
      all = block;
      bytes += size;
    }
    if (errno != ENOMEM) return 1;
    if (bytes < (200 << 20)) return 2;
    while (all != NULL) {
      struct Block* const next = all->next;
      free(all);
      all = next;
    }
  }
  puts("done");
  return 0;
}
"""

# A program with a malloc of its own, which it exports, and with some of the operators, as Firefox.
# What it did not give out it does not take back.
OWN = r"""
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>
namespace {
alignas(4096) char memory[16 << 20];
std::size_t used = 0;
bool refuses = false;
struct Header { std::size_t size; Header* self; };
void* take(std::size_t size, std::size_t align) {
  used = (used + sizeof(Header) + align - 1) & -align;
  Header* const header = reinterpret_cast<Header*>(memory + used) - 1;
  *header = {size, header};
  used += size;
  return header + 1;
}
Header* header_of(void* ptr) {
  char* const at = static_cast<char*>(ptr);
  Header* const header = reinterpret_cast<Header*>(at) - 1;
  if (at < memory || at >= memory + sizeof memory || header->self != header) std::_Exit(3);
  return header;
}
}
extern "C" {
void* malloc(std::size_t size) { return take(size, 16); }
void* calloc(std::size_t count, std::size_t size) { return take(count * size, 16); }
void free(void* ptr) { if (ptr != nullptr) header_of(ptr)->self = nullptr; }
void* realloc(void* ptr, std::size_t size) {
  if (refuses) return nullptr;
  void* const moved = take(size, 16);
  if (ptr == nullptr) return moved;
  std::memcpy(moved, ptr, header_of(ptr)->size < size ? header_of(ptr)->size : size);
  free(ptr);
  return moved;
}
int posix_memalign(void** ptr, std::size_t align, std::size_t size) {
  *ptr = take(size, align);
  return 0;
}
void* aligned_alloc(std::size_t align, std::size_t size) { return take(size, align); }
}
void* operator new(std::size_t size) { return malloc(size); }
void operator delete(void* ptr) noexcept { free(ptr); }
struct alignas(64) Wide { int value = 1; };
int main() {
  for (int i = 0; i < 100; ++i) {
    std::vector<std::string> texts(20, std::string(50, 'x'));
    delete new std::string(100, 'y');
    std::make_unique<Wide[]>(4).reset();
    std::free(strdup("a string"));
    void* const array = reallocarray(nullptr, 10, 100);
    std::free(reallocarray(array, 20, 100));
    std::free(aligned_alloc(64, 128));
  }
  // What it has no memory for nobody else has.
  void* const block = std::malloc(1000);
  refuses = true;
  if (reallocarray(block, 2, 1000) != nullptr || header_of(block)->size != 1000) return 4;
  refuses = false;
  std::free(block);
  std::puts("done");
}
"""

# One that is loaded where it was linked for and asks for the addresses of functions: they are then
# in the program itself, of jumps to the functions.
ADDRESS = r"""
#include <stdio.h>
#include <stdlib.h>
static void* (*volatile take)(size_t);
static void* (*volatile take_zeroed)(size_t, size_t);
static void* (*volatile resize)(void*, size_t);
static int (*volatile take_aligned)(void**, size_t, size_t);
static void (*volatile give)(void*);
int main(void) {
  take = malloc, take_zeroed = calloc, resize = realloc, take_aligned = posix_memalign, give = free;
  void* aligned = NULL;
  if (take_aligned(&aligned, 64, 100) != 0) return 1;
  give(resize(take_zeroed(10, 10), 1000));
  for (int i = 0; i < 1000; ++i) give(take(2 << 20));
  void* const kept = take(100);
  puts(kept != NULL ? "done" : "no memory");
  return 0;
}
"""


# As heap profilers have it: in front of all others, and each calls the next one.
FORWARDS = r"""
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
static size_t calls;
#define NEXT(name) static typeof(&name) next; ++calls; if (!next) next = dlsym(RTLD_NEXT, #name)
void* malloc(size_t size) { NEXT(malloc); return next(size); }
void* calloc(size_t count, size_t size) { NEXT(calloc); return next(count, size); }
void* realloc(void* ptr, size_t size) { NEXT(realloc); return next(ptr, size); }
int posix_memalign(void** ptr, size_t align, size_t size) {
  NEXT(posix_memalign); return next(ptr, align, size);
}
void free(void* ptr) { NEXT(free); next(ptr); }
__attribute__((destructor)) static void end(void) { fprintf(stderr, "%zu forwarded\n", calls); }
"""

FORWARDED = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  void* aligned = NULL;
  if (posix_memalign(&aligned, 4096, 100) != 0) return 1;
  free(aligned);
  char* kept[200];
  for (int i = 0; i < 200; ++i) {
    kept[i] = realloc(strcpy(malloc(10), "text"), 1000 * i + 10);
    free(memset(calloc(10, 10000 * i + 1), 1, 10));
  }
  for (int i = 1; i < 200; ++i) {
    if (strcmp(kept[i], "text") != 0) return 2;
    free(kept[i]);
  }
  puts("done");
  return 0;
}
"""


# What a heap of a few MiB keeps when all is free, in KiB, and what is left of that after malloc_trim;
# what that returns, and what errno is then; and what large blocks leave in front of one that lives.
TRIMS = RESIDENT + r"""
#include <errno.h>
#include <malloc.h>
#include <string.h>
int main(void) {
  enum { count = 12 << 10 };
  static char* blocks[count];
  const long before = resident();
  for (int i = 0; i < count; ++i) memset(blocks[i] = malloc(1000), 1, 1000);
  for (int i = 0; i < count; ++i) free(blocks[i]);
  const long idle = resident() - before;
  errno = 7;
  const int trimmed = malloc_trim(0);
  const int number = errno;
  printf("%ld %ld %d %d ", idle, resident() - before, trimmed, number);
  for (int i = 0; i < 200; ++i) memset(blocks[i] = malloc(1100000), 1, 1100000);
  for (int i = 0; i < 199; ++i) free(blocks[i]);
  printf("%ld\n", resident() - before);
  return 0;
}
"""

# A clock that allocates and frees, as that of a library which reads a file for the time.
CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static __thread volatile int inside;
static __thread void* blocks[4096];
int clock_gettime(clockid_t clock, struct timespec* now) {
  static __thread unsigned count;
  if (!inside) {
    inside = 1;
    for (int i = 0; i < 40; ++i) {
      void** const block = &blocks[count++ * 2654435761u >> 20];
      free(*block);
      *block = malloc(8 + count * 37 % 3000);
    }
    inside = 0;
  }
  return (int)syscall(SYS_clock_gettime, clock, now);
}
"""
# Batches of small blocks, freed in another order, and of large ones: for both the heap looks at it.
BATCHES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  enum { count = 40000 };
  static char* blocks[count];
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < count; ++i) memset(blocks[i] = malloc(16 + i % 1000), i, 16 + i % 1000);
    for (int i = 0; i < count; ++i) {
      char* const block = blocks[i * 7919L % count];
      if (block[15] != (char)(i * 7919L % count)) return 1;
      free(block);
    }
    for (int i = 0; i < 10; ++i) *(blocks[i] = malloc(2000000)) = 1;
    for (int i = 0; i < 10; ++i) free(blocks[i]);
  }
  puts("done");
  return 0;
}
"""


class Programs(support.TestCase):
    def setUp(self):
        super().setUp()
        self.env = support.environment(**PRELOADED)

    def c_program(self, text, *flags, **options):
        source = self.write("program.c", text)
        return self.build(*C_FLAGS, source, "-x", "none", *flags, **options)

    def test_blocks_freed_by_the_others(self):
        program = self.build("-std=c++17", "-O1", "-w", self.write("mixed.cpp", MIXED))
        self.assertEqual(self.check([program], env=self.env).stdout, "done\n")

    def test_a_program_with_a_malloc_of_its_own(self):
        for flags in (["-fsized-deallocation"], ["-fno-sized-deallocation"]):
            program = self.build("-std=c++17", "-O1", "-w", "-fno-builtin", "-rdynamic", *flags,
                                 self.write("own.cpp", OWN))
            with self.subTest(flags=flags):
                self.assertEqual(self.check([program]).stdout, "done\n")
                self.assertEqual(self.check([program], env=self.env).stdout, "done\n")

    def assert_forwarded(self, command, **environment):
        result = self.check(command, env=support.environment(SYSALLOC_STATS="1", **environment))
        self.assertEqual(result.stdout, "done\n")
        self.assertGreater(live_bytes(result), 0, support.describe(result))
        calls = re.search(r"(\d+) forwarded", result.stderr)
        self.assertGreater(int(calls[1]), 1000, support.describe(result))

    def test_a_malloc_in_front_that_calls_the_next_one(self):
        library = self.build(*C_FLAGS, "-shared", "-fPIC", self.write("forwards.c", FORWARDS),
                             output="libforwards.so")
        program = self.c_program(FORWARDED)
        self.assert_forwarded([program], LD_PRELOAD=f"{library} {SHARED}")

    def test_a_program_whose_malloc_calls_the_next_one(self):
        program = self.c_program(FORWARDS + FORWARDED, "-rdynamic")
        self.assert_forwarded([program], **PRELOADED)

    def test_a_program_that_has_a_jump_for_the_address_of_malloc(self):
        program = self.c_program(ADDRESS, "-fno-pie", "-no-pie")
        result = self.check([program], env=support.environment(SYSALLOC_STATS="1", **PRELOADED))
        self.assertEqual(result.stdout, "done\n")
        self.assertGreater(live_bytes(result), 0, support.describe(result))

    def test_threads_that_come_and_go_leave_nothing(self):
        grown = self.check([self.c_program(MANY_KEYS)], env=self.env).stdout
        self.assertLess(int(grown), 2048)

    def test_threads_that_allocate_to_the_very_end_leave_nothing(self):
        grown = self.check([self.c_program(LAST_ROUND)], env=self.env).stdout
        self.assertLess(int(grown), 2048)

    def test_free_leaves_errno_alone(self):
        self.assertEqual(self.check([self.c_program(FREES)], env=self.env).stdout, "0\n")

    def test_a_block_shrinks_without_memory(self):
        self.assertEqual(self.check([self.c_program(SHRINKS)], env=self.env).stdout, "0\n")

    def test_a_block_that_grows_bit_by_bit_is_copied_seldom(self):
        # By a quarter at a time it is 32 times as large after 16.
        self.assertLessEqual(int(self.check([self.c_program(GROWS)], env=self.env).stdout), 17)

    def test_malloc_trim_gives_back_what_is_free(self):
        output = self.check([self.c_program(TRIMS)], env=self.env).stdout
        idle, left, trimmed, number, of_large = map(int, output.split())
        self.assertGreater(idle, 8192, output)
        self.assertLess(left, 2048, output)
        self.assertEqual((trimmed, number), (1, 7), output)
        # By itself, when most of these are free.
        self.assertLess(of_large, 80 * 1024, output)

    def test_no_thread_is_cancelled_in_free(self):
        result = self.check([self.c_program(CANCELLED)], env=self.env)
        self.assertEqual(result.stdout, "done\n", support.describe(result))

    def test_setting_a_key_allocates(self):
        keys = self.build("-shared", "-fPIC", "-x", "c", self.write("keys.c", KEYS),
                          output="keys.so")
        program = self.c_program(MANY_KEYS)
        env = support.environment(LD_PRELOAD=f"{keys}:{SHARED}")
        self.assertLess(int(self.check([program], env=env).stdout), 2048)

    def test_the_clock_allocates(self):
        clock = self.build("-shared", "-fPIC", "-O1", "-x", "c", self.write("clock.c", CLOCK),
                           output="clock.so")
        env = support.environment(LD_PRELOAD=f"{clock}:{SHARED}")
        self.assertEqual(self.check([self.c_program(BATCHES)], env=env).stdout, "done\n")

    def test_forks_while_threads_allocate(self):
        result = self.check([self.c_program(FORKS)], env=self.env, timeout=300)
        self.assertEqual(result.stdout, "done\n")

    def test_memory_runs_out_and_comes_back(self):
        self.assertEqual(self.check([self.c_program(LIMITED)], env=self.env).stdout, "done\n")


MISTAKES = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char* volatile block;
int main(int argc, char** argv) {
  const char* const mistake = argv[1];
  block = malloc(40);
  memset(block, 1, 40);
  if (strcmp(mistake, "double_free") == 0) {
    free(block);
    free(block);
    for (int round = 0; round < 2; ++round) {
      static void* blocks[100000];
      for (int i = 0; i < 100000; ++i) blocks[i] = malloc(40);
      for (int i = 0; i < 100000; ++i) free(blocks[i]);
    }
  }
  if (strcmp(mistake, "interior") == 0) free((char*)(block = malloc(5 << 20)) + 8192);
  if (strcmp(mistake, "realloc_after_free") == 0) {
    block = malloc(900000);
    free(block);
    block = realloc(block, 1000000);
  }
  if (strcmp(mistake, "realloc_after_free_large") == 0) {
    block = malloc(5 << 20);
    free(block);
    block = realloc(block, 6 << 20);
  }
  if (strcmp(mistake, "overflow") == 0) block[40] = 1;
  if (strcmp(mistake, "use_after_free") == 0) {
    free(block);
    block[3] = 1;
    block = NULL;
  }
  if (strcmp(mistake, "leak") == 0) {
    block = malloc(1234);
    block = malloc(10);
  }
  free(block);
  puts("end");
  return argc == 3;
}
"""
MESSAGES = {
    "double_free": r"sysalloc: block freed twice at 0x[0-9a-f]+ \(size class of 48 bytes\)",
    "interior": r"sysalloc: interior pointer freed at 0x[0-9a-f]+",
    "realloc_after_free": r"sysalloc: block freed twice at 0x[0-9a-f]+",
    "realloc_after_free_large": r"sysalloc: block freed twice at 0x[0-9a-f]+",
}
MEMCHECK = {
    "overflow": "Invalid write of size 1",
    "use_after_free": "Invalid write of size 1",
    "double_free": "Invalid free()",
    "leak": "1,234 bytes in 1 blocks are definitely lost",
}


class Mistakes(support.TestCase):
    def program(self):
        return self.build(*C_FLAGS, "-g", self.write("mistakes.c", MISTAKES))

    def test_are_named(self):
        program = self.program()
        for mistake, pattern in MESSAGES.items():
            with self.subTest(mistake=mistake):
                result = support.run([program, mistake], env=support.environment(**PRELOADED))
                self.assertEqual(result.returncode, -signal.SIGABRT, support.describe(result))
                self.assertRegex(result.stderr, pattern)

    def test_valgrind_sees_every_block(self):
        self.need_memcheck()
        program = self.program()
        for mistake, words in MEMCHECK.items():
            with self.subTest(mistake=mistake):
                result = support.run(
                    ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
                     "--trace-children=yes", "env", f"LD_PRELOAD={SHARED}", program, mistake]
                )
                self.assertEqual(result.returncode, 99, support.describe(result))
                self.assertIn(words, result.stderr, support.describe(result))


if __name__ == "__main__":
    if not SHARED.exists():
        print("left out: the C library here has no other names for its malloc", file=sys.stderr)
        sys.exit(support.SKIPPED)
    support.main()
