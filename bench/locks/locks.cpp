// Preloaded into a program: how often each of its mutexes is taken, how long it is held, and how
// often a thread finds it taken. `bench/locks/run` builds on it.
//
// It stands before pthread_mutex_lock, _trylock and _unlock of the C library, so it sees every lock
// that a heap takes through them. What it adds to the time that a lock is held is one reading of
// the clock; it measures that on a mutex of its own first and takes it off. Condition variables
// release and take their mutex inside the C library, unseen: the time of a wait would count as
// held. Locks that wait so are not what this is for.
//
// At exit it writes a line for each mutex to the file that LOCKS_OUT names:
//   ADDRESS TAKEN FOUND_TAKEN NANOSECONDS_HELD
// after one with the address at which the program was loaded and the seconds it ran.

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

using Function = int (*)(pthread_mutex_t*);

// The C library's own. Looked up at the first call, which is single-threaded: the program's own
// constructors.
struct Next {
  const char* name;
  std::atomic<Function> function{nullptr};

  int operator()(pthread_mutex_t* mutex) {
    Function found = function.load(std::memory_order_relaxed);
    if (found == nullptr) {
      found = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
      function.store(found, std::memory_order_relaxed);
    }
    return found(mutex);
  }
};
constinit Next real_lock{"pthread_mutex_lock"};
constinit Next real_trylock{"pthread_mutex_trylock"};
constinit Next real_unlock{"pthread_mutex_unlock"};

std::uint64_t now() {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#else
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

struct alignas(64) Entry {
  std::atomic<pthread_mutex_t*> mutex;
  std::atomic<std::uint64_t> found_taken;
  // Only the holder writes these.
  std::uint64_t taken;
  std::uint64_t held;
  std::uint64_t since;
};

constinit std::array<Entry, 4096> entries{};

// nullptr when there are more mutexes than entries: those are not counted.
Entry* entry_of(pthread_mutex_t* mutex) {
  const auto address = reinterpret_cast<std::uintptr_t>(mutex);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    Entry& entry = entries[(address / 8 * 0x9e3779b1 + i) % entries.size()];
    pthread_mutex_t* there = entry.mutex.load(std::memory_order_relaxed);
    if (there == nullptr && entry.mutex.compare_exchange_strong(there, mutex)) return &entry;
    if (there == mutex) return &entry;
  }
  return nullptr;
}

int taken(pthread_mutex_t* mutex, bool waited) {
  if (Entry* const entry = entry_of(mutex)) {
    if (waited) entry->found_taken.fetch_add(1, std::memory_order_relaxed);
    ++entry->taken;
    entry->since = now();
  }
  return 0;
}

// Which spins on the lock with trylock: it found the lock taken once, however often it tries.
thread_local pthread_mutex_t* spinning_on = nullptr;

int try_lock(pthread_mutex_t* mutex) {
  const int result = real_trylock(mutex);
  if (result != 0) {
    spinning_on = mutex;
    return result;
  }
  const bool waited = spinning_on == mutex;
  spinning_on = nullptr;
  return taken(mutex, waited);
}

struct Clock {
  std::uint64_t ticks = now();
  std::chrono::steady_clock::time_point time = std::chrono::steady_clock::now();
};
Clock& begin() {
  static Clock clock;
  return clock;
}

std::uintptr_t load_address() {
  std::uintptr_t address = 0;
  // The first is the program itself.
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uintptr_t*>(out) = info->dlpi_addr;
        return 1;
      },
      &address);
  return address;
}

[[gnu::constructor]] void start() { begin(); }

[[gnu::destructor]] void report() {
  const char* const path = std::getenv("LOCKS_OUT");
  if (path == nullptr) return;
  const Clock end;
  const double seconds = std::chrono::duration<double>(end.time - begin().time).count();
  const double ns_per_tick = seconds * 1e9 / static_cast<double>(end.ticks - begin().ticks);
  // What is measured of a lock that guards nothing.
  static pthread_mutex_t nothing = PTHREAD_MUTEX_INITIALIZER;
  for (int i = 0; i < 100'000; ++i) {
    pthread_mutex_lock(&nothing);
    pthread_mutex_unlock(&nothing);
  }
  const Entry& empty = *entry_of(&nothing);
  const double overhead = static_cast<double>(empty.held) / static_cast<double>(empty.taken);

  std::FILE* const out = std::fopen(path, "w");
  if (out == nullptr) return;
  std::fprintf(out, "%#zx %.6f\n", static_cast<std::size_t>(load_address()), seconds);
  for (const Entry& entry : entries) {
    if (entry.taken == 0 || &entry == &empty) continue;
    const double net =
        static_cast<double>(entry.held) - overhead * static_cast<double>(entry.taken);
    std::fprintf(out, "%p %llu %llu %.0f\n", static_cast<void*>(entry.mutex.load()),
                 static_cast<unsigned long long>(entry.taken),
                 static_cast<unsigned long long>(entry.found_taken.load()),
                 net < 0 ? 0 : net * ns_per_tick);
  }
  std::fclose(out);
}

}  // namespace

extern "C" {

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept { return try_lock(mutex); }

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (try_lock(mutex) == 0) return 0;
  spinning_on = nullptr;
  const int result = real_lock(mutex);
  return result == 0 ? taken(mutex, true) : result;
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  if (Entry* const entry = entry_of(mutex)) entry->held += now() - entry->since;
  return real_unlock(mutex);
}
}
