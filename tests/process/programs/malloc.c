// Checks what the functions of malloc(3) promise, each with sizes and alignments of all kinds. In
// C, and without anything of sysalloc: what it says of glibc alone has to be what it says of
// another malloc. Prints each thing that is not so, and at last how many.

#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int faults;

static void expect(int holds, const char* what, size_t a, size_t b) {
  if (holds) return;
  printf("not so: %s (%zu, %zu)\n", what, a, b);
  ++faults;
}
#define EXPECT(condition, a, b) expect((condition), #condition, (a), (b))

// What no allocator can give, so that the compiler does not see it. A program of 32 bits may get
// half of all that it can address.
static volatile size_t too_much = sizeof(void*) > 4 ? PTRDIFF_MAX : (size_t)PTRDIFF_MAX + 1;
static void* volatile sink;

static int is_aligned(const void* ptr, size_t align) { return (uintptr_t)ptr % align == 0; }

// Is the block there, aligned, and big enough to be filled to the end that it claims?
static void check_block(void* ptr, size_t size, size_t align) {
  EXPECT(ptr != NULL, size, align);
  if (ptr == NULL) return;
  EXPECT(is_aligned(ptr, align), size, align);
  const size_t usable = malloc_usable_size(ptr);
  EXPECT(usable >= size, size, usable);
  memset(ptr, 0xa5, usable);
}

static int is_filled(const unsigned char* bytes, size_t count, unsigned char with) {
  for (size_t i = 0; i < count; ++i) {
    if (bytes[i] != with) return 0;
  }
  return 1;
}

static const size_t sizes[] = {0,      1,       7,       16,      17,      100,   1000,
                               4096,   4097,    5000,    32768,   32769,   65536, 100000,
                               524288, 1048576, 1048577, 3000000, 40000000};
enum { size_count = sizeof sizes / sizeof *sizes };
// What fits any object of a fundamental type.
enum { least_align = 2 * sizeof(void*) };

static void check_plain(void) {
  for (int i = 0; i < size_count; ++i) {
    const size_t size = sizes[i];
    errno = 0;
    void* const a = malloc(size);
    void* const b = malloc(size);
    EXPECT(a != b, size, 0);
    check_block(a, size, size < least_align ? sizeof(void*) : least_align);
    check_block(b, size, size < least_align ? sizeof(void*) : least_align);
    free(a);
    // Dirty memory that was just freed may not show.
    unsigned char* const zeroed = calloc(size == 0 ? 0 : 1, size);
    EXPECT(zeroed != NULL, size, 0);
    EXPECT(is_filled(zeroed, size, 0), size, 0);
    check_block(zeroed, size, sizeof(void*));
    free(zeroed);
    free(b);
    EXPECT(errno == 0, size, (size_t)errno);
  }
  errno = EXDEV;
  free(NULL);
  EXPECT(errno == EXDEV, 0, 0);
  unsigned char* const items = calloc(1000, 24);
  EXPECT(is_filled(items, 24000, 0), 1000, 24);
  free(items);
}

static void check_realloc(void) {
  for (int i = 0; i < size_count; ++i) {
    for (int j = 0; j < size_count; ++j) {
      const size_t from = sizes[i], to = sizes[j];
      if (to == 0) continue;
      unsigned char* block = malloc(from);
      memset(block, 0x5a, from);
      block = j % 2 == 0 ? realloc(block, to) : reallocarray(block, 1, to);
      EXPECT(block != NULL, from, to);
      EXPECT(is_filled(block, from < to ? from : to, 0x5a), from, to);
      check_block(block, to, to < least_align ? sizeof(void*) : least_align);
      free(block);
    }
  }
  void* const fresh = realloc(NULL, 100);
  check_block(fresh, 100, least_align);
  EXPECT(realloc(fresh, 0) == NULL, 100, 0);
  // One that grows bit by bit, as buffers do.
  unsigned char* block = NULL;
  for (size_t size = 1; size < 6000000; size += 1 + size / 7) {
    block = realloc(block, size);
    EXPECT(block != NULL, size, 0);
    block[size - 1] = (unsigned char)size;
    block[0] = 77;
    EXPECT(block[0] == 77, size, 0);
  }
  // And one that was allocated at an alignment of its own keeps its content.
  unsigned char* aligned = aligned_alloc(4096, 8192);
  memset(aligned, 0x11, 8192);
  aligned = realloc(aligned, 100000);
  EXPECT(is_filled(aligned, 8192, 0x11), 8192, 100000);
  free(aligned);
  free(block);
}

static void check_aligned(void) {
  for (size_t align = 1; align <= (size_t)64 << 20; align *= 2) {
    for (int i = 0; i < size_count; ++i) {
      const size_t size = sizes[i];
      void* blocks[3] = {aligned_alloc(align, size), memalign(align, size), NULL};
      const int error = posix_memalign(&blocks[2], align, size);
      if (align < sizeof(void*)) {
        EXPECT(error == EINVAL, size, align);
      } else {
        EXPECT(error == 0, size, align);
        check_block(blocks[2], size, align);
      }
      check_block(blocks[0], size, align);
      check_block(blocks[1], size, align);
      for (int k = 0; k < 3; ++k) free(blocks[k]);
    }
  }
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < size_count; ++i) {
    void* const a = valloc(sizes[i]);
    void* const b = pvalloc(sizes[i]);
    check_block(a, sizes[i], page);
    check_block(b, (sizes[i] + page - 1) / page * page, page);
    free(a);
    free(b);
  }
  void* untouched = &untouched;
  EXPECT(posix_memalign(&untouched, 24, 100) == EINVAL, 24, 100);
  EXPECT(posix_memalign(&untouched, 64, too_much) == ENOMEM, 64, 0);
  EXPECT(untouched == &untouched, 64, 0);
  // glibc rounds up to a power of two.
  void* const odd = memalign(48, 100);
  check_block(odd, 100, 64);
  free(odd);
#if !__GLIBC_PREREQ(2, 38)
  void* const other = aligned_alloc(48, 100);
  check_block(other, 100, 64);
  free(other);
#endif
}

static void expect_no_memory(void* ptr, const char* what) {
  expect(ptr == NULL && errno == ENOMEM, what, (size_t)errno, 0);
  errno = 0;
}

static void check_failures(void) {
  errno = 0;
  void* const kept = malloc(100);
  memset(kept, 0x3c, 100);
  expect_no_memory(malloc(too_much), "malloc");
  expect_no_memory(malloc(too_much + 1), "malloc above PTRDIFF_MAX");
  expect_no_memory(malloc(SIZE_MAX), "malloc of SIZE_MAX");
  expect_no_memory(calloc(too_much, 1), "calloc");
  expect_no_memory(calloc(SIZE_MAX / 2, 3), "calloc that overflows");
  expect_no_memory(calloc(SIZE_MAX / 16 + 2, 16), "calloc that overflows to little");
  expect_no_memory(realloc(kept, too_much), "realloc");
  expect_no_memory(realloc(kept, SIZE_MAX), "realloc of SIZE_MAX");
  expect_no_memory(reallocarray(kept, SIZE_MAX / 2, 4), "reallocarray that overflows");
  expect_no_memory(aligned_alloc(64, too_much), "aligned_alloc");
  expect_no_memory(memalign(64, too_much), "memalign");
  expect_no_memory(valloc(too_much), "valloc");
  expect_no_memory(pvalloc(too_much), "pvalloc");
  EXPECT(is_filled(kept, 100, 0x3c), 100, 0);
  free(kept);
}

// What library functions allocate, and say that free() takes.
static void check_library(void) {
  free(strdup("some text"));
  char* line = NULL;
  size_t room = 0;
  FILE* const self = fopen("/proc/self/maps", "r");
  while (getline(&line, &room, self) > 0) sink = line;
  fclose(self);
  free(line);
  char* text = NULL;
  EXPECT(asprintf(&text, "%0*d", 100000, 1) == 100000, 0, 0);
  free(text);
  char* memory = NULL;
  FILE* const stream = open_memstream(&memory, &room);
  for (int i = 0; i < 100000; ++i) fprintf(stream, "%d\n", i);
  fclose(stream);
  EXPECT(strlen(memory) == room, room, 0);
  free(memory);
  free(realpath("/", NULL));
}

int main(void) {
  EXPECT(malloc_usable_size(NULL) == 0, 0, 0);
  check_plain();
  check_realloc();
  check_aligned();
  check_failures();
  check_library();
  printf("%d faults\n", faults);
  return 0;
}
