// What the forms of operator new do when memory is out: of sizes that cannot be, and of small ones
// when really nothing is left, not for a loader that is asked for something either. As a program,
// and with -DPLUGIN for a program that loads it and calls run(). Prints what is wrong.
//
// With -DNOTHROW_CATCHES_NOTHING no handler throws in a nothrow form.

#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <new>

namespace {

constexpr std::align_val_t align{64};

struct Form {
  const char* name;
  bool nothrow;
  void* (*call)(std::size_t size);
};
const Form forms[] = {
    {"new", false, [](std::size_t size) { return ::operator new(size); }},
    {"new[]", false, [](std::size_t size) { return ::operator new[](size); }},
    {"new aligned", false, [](std::size_t size) { return ::operator new(size, align); }},
    {"new[] aligned", false, [](std::size_t size) { return ::operator new[](size, align); }},
    {"new nothrow", true, [](std::size_t size) { return ::operator new(size, std::nothrow); }},
    {"new[] nothrow", true, [](std::size_t size) { return ::operator new[](size, std::nothrow); }},
    {"new aligned nothrow", true,
     [](std::size_t size) { return ::operator new(size, align, std::nothrow); }},
    {"new[] aligned nothrow", true,
     [](std::size_t size) { return ::operator new[](size, align, std::nothrow); }},
};

enum class Outcome { block, null, bad_alloc, own };
struct Own {};
int calls = 0;

struct Handler {
  const char* name;
  std::new_handler function;
  Outcome outcome;  // of a throwing form
};
const Handler handlers[] = {
    {"no handler", nullptr, Outcome::bad_alloc},
    {"a handler that gives up",
     [] {
       if (++calls == 3) std::set_new_handler(nullptr);
     },
     Outcome::bad_alloc},
    {"a handler that throws", [] { throw Own{}; }, Outcome::own},
    {"a handler that throws bad_alloc", [] { throw std::bad_alloc(); }, Outcome::bad_alloc},
};

Outcome outcome_of(const Form& form, std::size_t size) {
  try {
    return form.call(size) == nullptr ? Outcome::null : Outcome::block;
  } catch (const std::bad_alloc&) {
    return Outcome::bad_alloc;
  } catch (const Own&) {
    return Outcome::own;
  }
}

// To be told without memory.
void write_out(const char* text) {
  if (write(STDOUT_FILENO, text, std::strlen(text)) < 0) std::abort();
}

void check_all(const char* when, std::size_t size) {
  const auto check = [when](bool holds, const Form& form, const Handler& handler,
                            const char* what) {
    if (holds) return;
    for (const char* const text : {when, ": ", form.name, ", ", handler.name, ": ", what, "\n"}) {
      write_out(text);
    }
  };
  for (const Form& form : forms) {
    for (const Handler& handler : handlers) {
#if defined(NOTHROW_CATCHES_NOTHING)
      if (form.nothrow && std::strstr(handler.name, "throws") != nullptr) continue;
#endif
      calls = 0;
      std::set_new_handler(handler.function);
      const Outcome outcome = outcome_of(form, size);
      std::set_new_handler(nullptr);
      const bool gives_up = std::strstr(handler.name, "gives up") != nullptr;
      check(outcome == (form.nothrow ? Outcome::null : handler.outcome), form, handler, "outcome");
      check(calls == (gives_up ? 3 : 0), form, handler, "calls of the handler");
      check(std::uncaught_exceptions() == 0, form, handler, "uncaught_exceptions");
      check(std::current_exception() == nullptr, form, handler, "current_exception");
    }
  }
}

// Stacks do not grow either when memory is out. A part of nobody's frame.
__attribute__((noinline)) void grow_stack() {
  volatile char stack[256 * 1024];
  for (std::size_t i = 0; i < sizeof stack; i += 1024) stack[i] = 1;
}

// No compiler may leave out what goes through here.
void* volatile taken;

// Takes what is left, for good: of the operators and of malloc, which may be another's.
void take_all() {
  for (std::size_t size = 1 << 20; size > 0; size /= 4) {
    do taken = ::operator new(size, std::nothrow);
    while (taken != nullptr);
    do taken = ::operator new(size, align, std::nothrow);
    while (taken != nullptr);
    do taken = std::malloc(size);
    while (taken != nullptr);
  }
}

}  // namespace

extern "C" void run() {
  // Of a program that is not position-independent these are addresses in itself, as if it had the
  // functions.
  void* (*volatile nothrow)(std::size_t, const std::nothrow_t&);
  std::new_handler (*volatile get)();
  nothrow = ::operator new;
  get = std::get_new_handler;
  if (nothrow == nullptr || get == nullptr) std::abort();
  check_all("a size that cannot be", std::size_t{PTRDIFF_MAX} + 1);

  grow_stack();
  rlimit limit;
  getrlimit(RLIMIT_AS, &limit);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = 0;
  setrlimit(RLIMIT_AS, &limit);
  take_all();
  check_all("nothing left", 64);
  check_all("nothing left", 1);
  limit.rlim_cur = before;
  setrlimit(RLIMIT_AS, &limit);
  std::puts("done");
}

#if !defined(PLUGIN)
int main() { run(); }
#endif
