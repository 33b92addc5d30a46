// What Cached needs of Windows (cached/os_windows.hpp).
//
// The end of a thread comes as a call of a TLS callback: the linker collects the pointers in the
// sections .CRT$XL*, in the order of their names, into the table that the loader calls for every
// thread. The last of the names that are free is ours, for the destructors of thread_local objects
// are called from the same table.
//
// A callback of FlsAlloc would be less to write, but a fiber that is deleted calls it for a thread
// that goes on.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sysalloc/cached/os_windows.hpp>
#include <sysalloc/detail/visibility.hpp>

#include "windows.hpp"

namespace sysalloc::detail::cached::os {
namespace {

static_assert(sizeof(SRWLOCK) == sizeof(Lock) && alignof(SRWLOCK) == alignof(Lock));

// While there is one, and after it, the last error of the thread is what it was.
class LastError {
 public:
  LastError() noexcept = default;
  LastError(const LastError&) = delete;
  LastError& operator=(const LastError&) = delete;
  ~LastError() { SetLastError(value_); }

 private:
  DWORD value_ = GetLastError();
};

}  // namespace

SYSALLOC_SHARED_DEFINITION std::uint32_t milliseconds() noexcept { return GetTickCount(); }
SYSALLOC_SHARED_DEFINITION std::size_t process_id() noexcept { return GetCurrentProcessId(); }

SYSALLOC_SHARED_DEFINITION std::size_t real_page_size() noexcept {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

SYSALLOC_SHARED_DEFINITION void release(std::uintptr_t address, std::size_t size) noexcept {
  const LastError kept;
  VirtualAlloc(reinterpret_cast<void*>(address), size, MEM_RESET, PAGE_READWRITE);
}

SYSALLOC_SHARED_DEFINITION bool is_mapped(std::uintptr_t address) noexcept {
  const LastError kept;
  MEMORY_BASIC_INFORMATION info;
  return VirtualQuery(reinterpret_cast<void*>(address), &info, sizeof(info)) != 0 &&
         info.State == MEM_COMMIT;
}

SYSALLOC_SHARED_DEFINITION bool Lock::try_lock() noexcept {
  return TryAcquireSRWLockExclusive(reinterpret_cast<SRWLOCK*>(&srw_lock_)) != 0;
}

SYSALLOC_SHARED_DEFINITION void Lock::lock() noexcept {
  AcquireSRWLockExclusive(reinterpret_cast<SRWLOCK*>(&srw_lock_));
}

SYSALLOC_SHARED_DEFINITION void Lock::unlock() noexcept {
  ReleaseSRWLockExclusive(reinterpret_cast<SRWLOCK*>(&srw_lock_));
}

SYSALLOC_SHARED_DEFINITION void pause() noexcept { YieldProcessor(); }

SYSALLOC_SHARED_DEFINITION const void* this_thread() noexcept {
  return reinterpret_cast<const void*>(std::uintptr_t{GetCurrentThreadId()});
}

// The slots that were started, which are never taken out again. One list for the program, as there
// is one definition of the functions that use it. NOLINTNEXTLINE(misc-use-internal-linkage)
inline constinit std::atomic<ThreadSlot*> thread_slots{nullptr};

SYSALLOC_SHARED_DEFINITION bool ThreadSlot::start() noexcept {
  const LastError kept;
  const DWORD index = TlsAlloc();
  if (index == TLS_OUT_OF_INDEXES) return false;
  // Release, here and below: who sees the slot sees its index and what is behind it in the list.
  index_.store(index, std::memory_order_release);
  next_ = thread_slots.load(std::memory_order_relaxed);
  while (!thread_slots.compare_exchange_weak(next_, this, std::memory_order_release)) {
  }
  return true;
}

SYSALLOC_SHARED_DEFINITION void* ThreadSlot::get() const noexcept {
  const unsigned long index = index_.load(std::memory_order_acquire);
  if (index == no_index) return nullptr;
  // TlsGetValue sets it to say that null is no error.
  const LastError kept;
  return TlsGetValue(index);
}

SYSALLOC_SHARED_DEFINITION bool ThreadSlot::set(void* value) noexcept {
  const LastError kept;
  return TlsSetValue(index_.load(std::memory_order_acquire), value) != 0;
}

SYSALLOC_SHARED_DEFINITION void ThreadSlot::end_thread() noexcept {
  for (ThreadSlot* slot = thread_slots.load(std::memory_order_acquire); slot != nullptr;
       slot = slot->next_) {
    if (void* const value = slot->get()) slot->at_end_(value);
  }
}

namespace {

void NTAPI at_thread_end(void* /*module*/, DWORD reason, void* /*reserved*/) {
  if (reason == DLL_THREAD_DETACH) ThreadSlot::end_thread();
}

#if defined(_MSC_VER) && !defined(__clang__)
#pragma section(".CRT$XLY", long, read)
#define SYSALLOC_TLS_CALLBACK __declspec(allocate(".CRT$XLY"))
// So that the program has the table at all.
#if defined(_WIN64)
#pragma comment(linker, "/INCLUDE:_tls_used")
#else
#pragma comment(linker, "/INCLUDE:__tls_used")
#endif
#else
#define SYSALLOC_TLS_CALLBACK __attribute__((section(".CRT$XLY"), used))
#endif

SYSALLOC_TLS_CALLBACK const PIMAGE_TLS_CALLBACK tls_callback = at_thread_end;

}  // namespace

}  // namespace sysalloc::detail::cached::os
