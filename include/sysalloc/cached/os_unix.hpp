// What Cached needs of Unix; os.hpp lists it.

#ifndef SYSALLOC_CACHED_OS_UNIX_HPP_
#define SYSALLOC_CACHED_OS_UNIX_HPP_

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <sysalloc/detail/fatal.hpp>

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if __has_include(<link.h>)
#include <link.h>
#endif
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define SYSALLOC_HAS_SINGLE_THREADED
#endif

// Defined by the run-time libraries of AddressSanitizer, LeakSanitizer and HWAddressSanitizer in
// every program that has them, by these names. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
__attribute__((weak)) void __asan_init();
__attribute__((weak)) void __lsan_init();
__attribute__((weak)) void __hwasan_init();
}
// NOLINTEND(bugprone-reserved-identifier)

namespace sysalloc::detail {

/// Defined in the library that replaces malloc (override/malloc.cpp): does the program export one
/// of its own, which comes first?
__attribute__((weak)) bool program_has_malloc() noexcept;

/// Defined there, too, which has a malloc_trim of its own: the C library's.
__attribute__((weak)) int trim_c_library() noexcept;

}  // namespace sysalloc::detail

namespace sysalloc::detail::cached::os {

/// The size of a page of memory, in bytes.
inline std::size_t real_page_size() noexcept {
  return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// A clock that wraps, in steps of a few milliseconds, since that costs no system call on Linux
/// (CLOCK_MONOTONIC_COARSE in clock_gettime(2)).
inline std::uint32_t milliseconds() noexcept {
#if defined(CLOCK_MONOTONIC_COARSE)
  constexpr clockid_t clock = CLOCK_MONOTONIC_COARSE;
#else
  constexpr clockid_t clock = CLOCK_MONOTONIC;
#endif
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint32_t>(now.tv_sec) * 1000 +
         static_cast<std::uint32_t>(now.tv_nsec / 1'000'000);
}

/// errno stays what it is: of operator delete nobody expects that it changes it, and free() may
/// not.
class KeepErrno {
 public:
  KeepErrno() noexcept : before_(errno) {}
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;
  ~KeepErrno() { errno = before_; }

 private:
  int before_;
};

/// Did release() ever fail? Memory that is locked, or a sandbox, makes it.
inline constinit std::atomic<bool> release_failed{false};

/// Gives the memory of whole pages back to the system. They can be used again at once, and hold
/// anything then. Only advice (madvise(2)): where it fails, the memory stays resident.
inline void release([[maybe_unused]] std::uintptr_t address,
                    [[maybe_unused]] std::size_t size) noexcept {
#if defined(__linux__)
  const KeepErrno keep;
  if (madvise(reinterpret_cast<void*>(address), size, MADV_DONTNEED) != 0) {
    release_failed.store(true, std::memory_order_relaxed);
  }
#endif
}

/// Releases whole pages that nobody uses yet. Do they hold zeros now, and whenever they are
/// released and that does not fail? Those of a C library do on Linux, where it has them from the
/// system for this process alone (MADV_DONTNEED in madvise(2)).
inline bool release_to_zero(std::uintptr_t address, std::size_t size) noexcept {
  auto* const word = reinterpret_cast<volatile unsigned*>(address);
  *word = 1;
  release(address, size);
  const bool is_zero = *word == 0;
  // To look brought the page of zeros that all processes share.
  release(address, real_page_size());
  return is_zero;
}

/// Brings whole pages into residence that are about to be used, with one call instead of a page
/// fault for each (MADV_POPULATE_WRITE in madvise(2), Linux 5.14). False where that fails, and the
/// faults come instead. Where the system knows nothing of it, or a sandbox forbids it, it is not
/// tried again.
inline bool populate([[maybe_unused]] std::uintptr_t address,
                     [[maybe_unused]] std::size_t size) noexcept {
#if defined(MADV_POPULATE_WRITE)
  static constinit std::atomic<bool> is_known{true};
  if (!is_known.load(std::memory_order_relaxed)) return false;
  const KeepErrno keep;
  if (madvise(reinterpret_cast<void*>(address), size, MADV_POPULATE_WRITE) == 0) return true;
  if (errno != EAGAIN && errno != ENOMEM) is_known.store(false, std::memory_order_relaxed);
#endif
  return false;
}

/// Has the system back whole pages with no huge ones, whatever its default is (MADV_NOHUGEPAGE in
/// madvise(2)). Only advice; costs a system call.
inline void refuse_huge_pages([[maybe_unused]] std::uintptr_t address,
                              [[maybe_unused]] std::size_t size) noexcept {
#if defined(MADV_NOHUGEPAGE)
  const KeepErrno keep;
  madvise(reinterpret_cast<void*>(address), size, MADV_NOHUGEPAGE);
#endif
}

/// Does realloc have the system move the pages of a block that is as large as that C libraries map
/// it for itself alone (mremap(2))?
#if defined(__linux__)
inline constexpr bool realloc_moves_pages = true;
#else
inline constexpr bool realloc_moves_pages = false;
#endif

/// Does the environment say how much the C library keeps of what was freed (mallopt(3), and "Memory
/// Allocation Tunables" in glibc's manual)? Then it is for nobody else to give that back.
inline bool is_told_what_to_keep() noexcept {
#if defined(__GLIBC__)
  for (const char* const name :
       {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  const char* const tunables = std::getenv("GLIBC_TUNABLES");
  if (tunables == nullptr) return false;
  for (const char* const name : {"trim_threshold", "mmap_threshold", "mmap_max"}) {
    if (std::strstr(tunables, name) != nullptr) return true;
  }
#endif
  return false;
}

/// Lets the C library give back what it keeps of what was freed to it (malloc_trim(3)): a few large
/// blocks may be there.
inline void release_freed() noexcept {
#if defined(__GLIBC__)
  static_cast<void>(&trim_c_library != nullptr ? trim_c_library() : malloc_trim(0));
#endif
}

/// Lets the C library know that the program has blocks of `size` bytes. glibc keeps as much of what
/// was freed as twice the largest block that it mapped for itself alone and that was freed then,
/// and 128 KiB before that (mallopt(3), M_TRIM_THRESHOLD). But of such blocks it hears no more, and
/// so what the program does with malloc would have it give the end of its heap back, and take it
/// again, all the time. Costs two system calls, of which one page is touched; changes nothing where
/// the program has set that itself.
inline void expect_large_blocks([[maybe_unused]] std::size_t size) noexcept {
#if defined(__GLIBC__)
  const KeepErrno keep;
  // Of 32 bits it learns nothing from what is larger.
  constexpr std::size_t most = sizeof(void*) == 8 ? std::size_t{32} << 20 : std::size_t{508} << 10;
  // Or else compilers see that nothing is done with it.
  void* volatile block = std::malloc(size < most ? size : most);
  std::free(block);
#endif
}

/// Does `address` lie where the C library has memory of the main thread? glibc has it from the end
/// of the program on, and for other threads elsewhere.
inline bool is_in_main_arena([[maybe_unused]] std::uintptr_t address) noexcept {
#if defined(__GLIBC__)
  return address < reinterpret_cast<std::uintptr_t>(sbrk(0));
#else
  return false;
#endif
}

/// Is there memory at `address`? Costs a system call: mincore(2) says ENOMEM where there is none,
/// and something else where it is not to be called, as in a sandbox; then yes, for all that the
/// caller knows. Not msync(2), at which a thread may be cancelled, in the middle of a deallocation.
inline bool is_mapped(std::uintptr_t address) noexcept {
  const KeepErrno keep;
  const std::size_t page = real_page_size();
  void* const begin = reinterpret_cast<void*>(address & ~(page - 1));
#if defined(__linux__)
  unsigned char is_resident = 0;
  return mincore(begin, page, &is_resident) == 0 || errno != ENOMEM;
#else
  return msync(begin, page, MS_ASYNC) == 0 || errno != ENOMEM;
#endif
}

/// Is something at work that must see every block by itself? That is a malloc of the program's; or
/// the sanitizers, which bring their own symbols; or the tools of valgrind that watch the heap,
/// which preload a library with their name into the program. callgrind and its like are not among
/// them: they count what the program really does.
inline bool must_step_aside() noexcept {
  if (&program_has_malloc != nullptr && program_has_malloc()) return true;
  if (&__asan_init != nullptr || &__lsan_init != nullptr || &__hwasan_init != nullptr) return true;
  const char* const preload = std::getenv("LD_PRELOAD");
  if (preload == nullptr) return false;
  for (const char* const tool : {"memcheck", "helgrind", "drd", "dhat", "massif"}) {
    const char* found = preload;
    while ((found = std::strstr(found, "vgpreload_")) != nullptr) {
      found += sizeof("vgpreload_") - 1;
      if (std::strncmp(found, tool, std::strlen(tool)) == 0) return true;
    }
  }
  return false;
}

/// Constant-initialised and never destroyed. Not recursive. Not std::mutex: that can throw, so
/// whoever uses it needs the function that throws from the very C++ library it was compiled with;
/// the override object is to link with any.
class Lock {
 public:
  // None can fail for a mutex of the default kind that is used rightly (pthread_mutex_lock(3)).
  [[nodiscard]] bool try_lock() noexcept { return pthread_mutex_trylock(&mutex_) == 0; }
  void lock() noexcept { pthread_mutex_lock(&mutex_); }
  void unlock() noexcept { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

/// Tells the processor that this is a loop that waits.
inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// The model of thread-local storage that costs one instruction: a few bytes find room in the static
// block also in a library that is loaded late.
#define SYSALLOC_THREAD_LOCAL \
  [[gnu::tls_model("initial-exec")]] static inline constinit thread_local

struct ThisThread {
  SYSALLOC_THREAD_LOCAL char storage = 0;
};

/// An address that only this thread gets.
inline const void* this_thread() noexcept { return &ThisThread::storage; }

/// Has the process no thread but this one? Where the C library does not tell (glibc does, as
/// __libc_single_threaded), no.
inline bool is_single_threaded() noexcept {
#if defined(SYSALLOC_HAS_SINGLE_THREADED)
  return __libc_single_threaded != 0;
#else
  return false;
#endif
}
#undef SYSALLOC_HAS_SINGLE_THREADED

/// Registers handlers for pthread_atfork(3). Where that fails, a child must not allocate.
inline void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) noexcept {
  pthread_atfork(before, in_parent, in_child);
}

/// Does this code stay until the process ends? That of the program does, and of the libraries of
/// the override (override/meson.build); that of a library which a program loads may not.
inline bool stays_loaded() noexcept {
#if defined(SYSALLOC_OVERRIDE_SHARED) || !__has_include(<link.h>)
  return true;
#else
  // Asked of the program alone, which comes first (dl_iterate_phdr(3)).
  const auto has = [](dl_phdr_info* info, std::size_t /*size*/, void* address) {
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const auto& part = info->dlpi_phdr[i];
      const std::uintptr_t begin = info->dlpi_addr + part.p_vaddr;
      const bool is_in = reinterpret_cast<std::uintptr_t>(address) - begin < part.p_memsz;
      if (part.p_type == PT_LOAD && is_in) return 1;
    }
    return 2;
  };
  static constinit char here = 0;
  return dl_iterate_phdr(has, &here) == 1;
#endif
}

/// Where the standard error goes at the start, for what is written at the end of the program. By
/// then programs have closed it, as GNU's do, and perhaps opened another file in its place.
class KeptError {
 public:
  void keep() noexcept {
    const KeepErrno keep;
    struct stat now{};
    if (fstat(STDERR_FILENO, &now) == 0) {
      device_ = now.st_dev;
      inode_ = now.st_ino;
    } else if (errno == EBADF) {
      return;
    }
    was_open_ = true;
    // Far from those that a program counts on to be next.
    descriptor_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 100);
  }
  /// Below zero when it goes nowhere.
  [[nodiscard]] int descriptor() const noexcept {
    if (leads_there(descriptor_)) return descriptor_;
    return leads_there(STDERR_FILENO) ? STDERR_FILENO : -1;
  }
  /// Leaves the program's own alone. At the end; and in the child of a fork, which may be a daemon
  /// whose parent's reader waits for the end of what it reads.
  void close() noexcept {
    const KeepErrno keep;
    [[maybe_unused]] const NoCancellation guard;
    if (leads_there(descriptor_)) ::close(descriptor_);
    descriptor_ = -1;
  }

 private:
  /// What cannot be told apart is taken for the same: files that are too large for this `struct
  /// stat`.
  [[nodiscard]] bool leads_there(int descriptor) const noexcept {
    if (!was_open_ || descriptor < 0) return false;
    struct stat now{};
    if (fstat(descriptor, &now) != 0) return errno != EBADF;
    return inode_ == 0 || (now.st_dev == device_ && now.st_ino == inode_);
  }

  bool was_open_ = false;
  int descriptor_ = -1;
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
};

/// The program that this process runs, as far as it is known, and its number.
inline const char* program_name() noexcept {
#if defined(__GLIBC__)
  return program_invocation_short_name;
#else
  return "the program";
#endif
}
inline std::size_t process_id() noexcept { return static_cast<std::size_t>(getpid()); }

/// A pointer of each thread; Policy::none() until it is set. When a thread that has set it ends, it
/// is that again and Policy::at_end() is called with what it was, after the destructors of the
/// thread's thread_local objects. It is not set again then: of what is set in the last round of
/// destructors of keys nobody would hear.
template <class T, class Policy>
class PerThread {
 public:
  /// Before any set(), once.
  static void start() noexcept {
    has_key_.store(pthread_key_create(&key_, end) == 0, std::memory_order_release);
  }

  /// When the library that this is part of is unloaded, or the program ends: at_end() is called for
  /// no thread any more.
  static void stop() noexcept {
    if (has_key_.exchange(false, std::memory_order_acq_rel)) pthread_key_delete(key_);
  }

  [[nodiscard]] static T* get() noexcept { return value_; }

  /// False when the thread has set it or is at it, or the system had no key left.
  [[nodiscard]] static bool may_set() noexcept {
    return !was_set_ && has_key_.load(std::memory_order_acquire);
  }

  /// False, and nothing is changed, when the system has no room for it.
  [[nodiscard]] static bool set(T* value) noexcept {
    // Before: the system may allocate here, which may be for this heap to do (override/malloc.cpp).
    was_set_ = true;
    if (pthread_setspecific(key_, value) != 0) return was_set_ = false;
    value_ = value;
    return true;
  }

  /// As if the calling thread ended. After stop().
  static void leave() noexcept {
    if (value_ != Policy::none()) end(value_);
  }

  /// While there is one, the calling thread's is Policy::none() and cannot be set.
  class Away {
   public:
    Away() noexcept {
      value_ = Policy::none();
      was_set_ = true;
    }
    Away(const Away&) = delete;
    Away& operator=(const Away&) = delete;
    ~Away() {
      value_ = value_before_;
      was_set_ = was_set_before_;
    }

   private:
    T* value_before_ = value_;
    bool was_set_before_ = was_set_;
  };

 private:
  static void end(void* value) noexcept {
    value_ = Policy::none();
    Policy::at_end(static_cast<T*>(value));
  }

  SYSALLOC_THREAD_LOCAL T* value_ = Policy::none();
  SYSALLOC_THREAD_LOCAL bool was_set_ = false;
  static inline constinit pthread_key_t key_{};
  static inline constinit std::atomic<bool> has_key_{false};
};

#undef SYSALLOC_THREAD_LOCAL

}  // namespace sysalloc::detail::cached::os

#endif  // SYSALLOC_CACHED_OS_UNIX_HPP_
