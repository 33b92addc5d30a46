// What Cached needs of Windows; os.hpp lists it. Defined in src/cached_windows.cpp, so that no
// program gets <windows.h> and its macros from this library.
//
// None changes what GetLastError() returns: operator new stands between a call that fails and the
// look at why.
//
// A thread's pointer is in a slot of TlsAlloc and not thread_local: g++ makes a thread_local of
// memory that is freed when the thread ends, before the destructors of thread_local objects run,
// and would be found anew and empty by those that allocate.

#ifndef SYSALLOC_CACHED_OS_WINDOWS_HPP_
#define SYSALLOC_CACHED_OS_WINDOWS_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sysalloc::detail::cached::os {

/// The size of a page of memory, in bytes.
[[nodiscard]] std::size_t real_page_size() noexcept;

/// A clock that wraps, in steps of some milliseconds (GetTickCount).
[[nodiscard]] std::uint32_t milliseconds() noexcept;

/// Nothing to keep: none of these functions changes errno, nor do those of the heap of the process.
struct [[maybe_unused]] KeepErrno {};

/// Tells the system that the contents of whole pages are of no use any more (MEM_RESET), so that it
/// takes their memory when it needs some instead of writing them out. They can be used again at
/// once, and hold anything then. Only advice: where it fails, the memory stays resident.
void release(std::uintptr_t address, std::size_t size) noexcept;

/// So nobody knows what they hold.
inline constexpr std::atomic<bool> release_failed{true};
inline bool release_to_zero(std::uintptr_t /*address*/, std::size_t /*size*/) noexcept {
  return false;
}

/// Brings pages into residence. Nothing here does that for less than page faults: false.
inline bool populate(std::uintptr_t /*address*/, std::size_t /*size*/) noexcept { return false; }

/// Has the system back memory with no huge pages. It does not unless it is asked to.
inline void refuse_huge_pages(std::uintptr_t /*address*/, std::size_t /*size*/) noexcept {}

/// Does realloc have the system move the pages of a large block? HeapReAlloc copies.
inline constexpr bool realloc_moves_pages = false;

/// Does the environment say how much the C library keeps of what was freed? HeapFree asks nobody.
inline bool is_told_what_to_keep() noexcept { return false; }

/// Lets the C library give back what it keeps of what was freed to it. HeapFree does of itself.
inline void release_freed() noexcept {}

/// Lets the C library know that the program has blocks of a size. What HeapFree keeps is its own.
inline void expect_large_blocks(std::size_t /*size*/) noexcept {}

/// HeapAlloc has the same memory for all threads, but asks nobody how much to keep.
inline bool is_in_main_arena(std::uintptr_t /*address*/) noexcept { return false; }

/// Is there memory at `address`? Costs a system call.
[[nodiscard]] bool is_mapped(std::uintptr_t address) noexcept;

/// Is something at work that must see every block by itself? Nothing that is known here.
inline bool must_step_aside() noexcept { return false; }

/// Constant-initialised and never destroyed. Not recursive. Costs no memory of the system.
class Lock {
 public:
  [[nodiscard]] bool try_lock() noexcept;
  void lock() noexcept;
  void unlock() noexcept;

 private:
  void* srw_lock_ = nullptr;  // an SRWLOCK, of which SRWLOCK_INIT is all zero
};

/// Tells the processor that this is a loop that waits.
void pause() noexcept;

/// A value, not null, that only this thread gets.
[[nodiscard]] const void* this_thread() noexcept;

/// Asked only for a fork, which there is not.
inline bool is_single_threaded() noexcept { return false; }

/// There is no fork.
inline void at_fork(void (* /*before*/)(), void (* /*in_parent*/)(),
                    void (* /*in_child*/)()) noexcept {}

/// Does this code stay until the process ends? That of a DLL does not always; but when it goes the
/// process may be at its end, and other threads with it, in the middle of what they held a lock
/// for.
inline bool stays_loaded() noexcept { return true; }

/// Where the standard error goes: programs here leave it.
struct KeptError {
  void keep() noexcept {}
  [[nodiscard]] int descriptor() const noexcept { return 2; }
  void close() noexcept {}
};

inline const char* program_name() noexcept { return "the program"; }
[[nodiscard]] std::size_t process_id() noexcept;

/// A slot for a pointer in each thread, null until it is set, and what is called with the pointer
/// when a thread ends in which it is not null. Constant-initialised and never destroyed.
class ThreadSlot {
 public:
  constexpr explicit ThreadSlot(void (*at_end)(void*) noexcept) noexcept : at_end_(at_end) {}

  /// Before any set(), once. False when the system has no room for it.
  [[nodiscard]] bool start() noexcept;
  [[nodiscard]] void* get() const noexcept;
  [[nodiscard]] bool set(void* value) noexcept;

  /// For the end of a thread: calls the functions of all slots that were started.
  static void end_thread() noexcept;

 private:
  static constexpr unsigned long no_index = 0xffffffff;  // TLS_OUT_OF_INDEXES

  void (*at_end_)(void*) noexcept;
  std::atomic<unsigned long> index_{no_index};
  ThreadSlot* next_ = nullptr;  // in the list of those that were started
};

/// A pointer of each thread; Policy::none() until it is set. When a thread that has set it ends, it
/// is that again and Policy::at_end() is called with what it was, after the destructors of the
/// thread's thread_local objects; it is not set again.
template <class T, class Policy>
class PerThread {
 public:
  /// Before any set(), once.
  static void start() noexcept { has_slot_ = slot_.start(); }

  /// Nothing to do here: who unloads a library ends its threads first (see README).
  static void stop() noexcept {}

  [[nodiscard]] static T* get() noexcept {
    void* const value = slot_.get();
    return value == nullptr ? Policy::none() : static_cast<T*>(value);
  }

  /// False when the thread may set it no more.
  [[nodiscard]] static bool may_set() noexcept { return has_slot_ && slot_.get() == nullptr; }

  /// False, and nothing is changed, when the system has no room for it.
  [[nodiscard]] static bool set(T* value) noexcept { return slot_.set(value); }

  /// As if the calling thread ended.
  static void leave() noexcept { end(get()); }

  /// While there is one, the calling thread's is Policy::none() and cannot be set.
  class Away {
   public:
    Away() noexcept { static_cast<void>(slot_.set(Policy::none())); }
    Away(const Away&) = delete;
    Away& operator=(const Away&) = delete;
    ~Away() { static_cast<void>(slot_.set(before_)); }

   private:
    void* before_ = slot_.get();
  };

 private:
  // Nothing would be called with what is set later in this thread, so it stays what it is here.
  static void end(void* value) noexcept {
    static_cast<void>(slot_.set(Policy::none()));
    if (value != Policy::none()) Policy::at_end(static_cast<T*>(value));
  }

  static inline constinit ThreadSlot slot_{end};
  static inline constinit bool has_slot_ = false;
};

}  // namespace sysalloc::detail::cached::os

#endif  // SYSALLOC_CACHED_OS_WINDOWS_HPP_
