// Allocators that write down what they are asked, over System.
//
//   Minimal    the two required members
//   Full       every optional member too
//
// Each lives on the stack of a test; the log is for one thread. And one that does next to nothing:
//
//   Nothing    one address for all, so that threads spend their time in the wrapper over it
//
// And one that writes down a sum alone, to be as small as a reference:
//
//   Tally      bytes that are live
//
// And one that cannot be made of nothing, to see what asks for that:
//
//   NoDefault  without a default constructor

#ifndef SYSALLOC_TESTS_UNIT_SUPPORT_MOCK_HPP_
#define SYSALLOC_TESTS_UNIT_SUPPORT_MOCK_HPP_

#include <cstddef>
#include <cstring>
#include <string>
#include <sysalloc/allocator.hpp>
#include <sysalloc/system.hpp>
#include <vector>

namespace tests {

using Log = std::vector<std::string>;

inline std::string text(sysalloc::Layout layout) {
  return std::to_string(layout.size()) + "/" + std::to_string(layout.align());
}

/// Logs `alloc SIZE/ALIGN` and `dealloc SIZE/ALIGN`. Its blocks come full of 0xcc, so that zeroes
/// are somebody's doing.
struct Minimal : sysalloc::AllocatorInterface<Minimal> {
  void* alloc(sysalloc::Layout layout) const noexcept {
    log.push_back("alloc " + text(layout));
    if (refuse) return nullptr;
    void* const ptr = sysalloc::System{}.alloc(layout);
    if (ptr != nullptr) std::memset(ptr, 0xcc, layout.size());
    return ptr;
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    log.push_back("dealloc " + text(layout));
    sysalloc::System{}.dealloc(ptr, layout);
  }

  mutable Log log;
  bool refuse = false;
};

/// Logs the optional members as well: `alloc_zeroed`, `realloc FROM to SIZE`, `realloc FROM to
/// SIZE/ALIGN`, `usable_size` and `dealloc_unsized ALIGN`.
struct Full : sysalloc::AllocatorInterface<Full> {
  void* alloc(sysalloc::Layout layout) const noexcept {
    log.push_back("alloc " + text(layout));
    return sysalloc::System{}.alloc(layout);
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    log.push_back("dealloc " + text(layout));
    sysalloc::System{}.dealloc(ptr, layout);
  }
  void* alloc_zeroed(sysalloc::Layout layout) const noexcept {
    log.push_back("alloc_zeroed " + text(layout));
    return sysalloc::System{}.alloc_zeroed(layout);
  }
  void* realloc(void* ptr, sysalloc::Layout layout, std::size_t new_size) const noexcept {
    log.push_back("realloc " + text(layout) + " to " + std::to_string(new_size));
    return sysalloc::System{}.realloc(ptr, layout, new_size);
  }
  void* realloc(void* ptr, sysalloc::Layout layout, sysalloc::Layout new_layout) const noexcept {
    log.push_back("realloc " + text(layout) + " to " + text(new_layout));
    return sysalloc::System{}.realloc(ptr, layout, new_layout);
  }
  std::size_t usable_size(const void* ptr) const noexcept {
    log.push_back("usable_size");
    return sysalloc::System{}.usable_size(ptr);
  }
  void dealloc_unsized(void* ptr, std::size_t align) const noexcept {
    log.push_back("dealloc_unsized " + std::to_string(align));
    sysalloc::System{}.dealloc_unsized(ptr, align);
  }

  mutable Log log;
};

struct Nothing {
  void* alloc(sysalloc::Layout /*layout*/) const noexcept {
    return sysalloc::Layout::of<std::max_align_t>().dangling();
  }
  void dealloc(void* /*ptr*/, sysalloc::Layout /*layout*/) const noexcept {}
};

/// State that looks like a reference: as large as a pointer, trivially copyable and comparable.
struct Tally {
  void* alloc(sysalloc::Layout layout) const noexcept {
    live += layout.size();
    return sysalloc::System{}.alloc(layout);
  }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    live -= layout.size();
    sysalloc::System{}.dealloc(ptr, layout);
  }
  bool operator==(const Tally&) const = default;

  mutable std::size_t live = 0;
};

/// Passes every call to System.
struct NoDefault {
  constexpr explicit NoDefault(int /*state*/) noexcept {}
  void* alloc(sysalloc::Layout layout) const noexcept { return sysalloc::System{}.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept {
    sysalloc::System{}.dealloc(ptr, layout);
  }
};

}  // namespace tests

#endif  // SYSALLOC_TESTS_UNIT_SUPPORT_MOCK_HPP_
