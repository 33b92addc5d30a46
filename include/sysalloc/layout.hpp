// Layout: the size and alignment of a block of memory, checked once, where it is made.
//
// Every call of the allocator interfaces carries a Layout, so an allocator never has to ask whether
// an alignment is a power of two or whether rounding a size up would overflow: a Layout that exists
// is one that can be asked for. The invariant, kept by every function here:
//
//   align is a power of two, and size rounded up to a multiple of align is at most PTRDIFF_MAX.
//
// PTRDIFF_MAX and not SIZE_MAX, since no object may be larger than a pointer difference can tell
// ([expr.add]). The counterpart in Rust is core::alloc::Layout.

#ifndef SYSALLOC_LAYOUT_HPP_
#define SYSALLOC_LAYOUT_HPP_

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <iosfwd>
#include <span>
#include <sysalloc/detail/text.hpp>
#include <utility>

namespace sysalloc {

namespace detail {

/// std::has_single_bit is a call of a function where the target has no instruction that counts
/// bits.
constexpr bool is_power_of_two(std::size_t value) noexcept {
  return value != 0 && (value & (value - 1)) == 0;
}

}  // namespace detail

/// Why a Layout could not be made: the alignment is zero or no power of two, or the size rounded up
/// to the alignment exceeds PTRDIFF_MAX. Carries no data, like Rust's LayoutError.
struct LayoutError {
  /// A sentence for people; static storage.
  [[nodiscard]] static constexpr const char* what() noexcept {
    return "invalid parameters to Layout::from_size_align";
  }
  friend constexpr bool operator==(LayoutError, LayoutError) noexcept = default;
};

/// The size and the alignment of a block, both in bytes. A trivially copyable value of two words;
/// every member but dangling() is constexpr; none allocates or throws, and all may be called from
/// any thread.
class Layout {
 public:
  /// The layout of a complete object of type T: sizeof(T) and alignof(T). Cannot fail.
  template <class T>
  [[nodiscard]] static constexpr Layout of() noexcept {
    return Layout{sizeof(T), alignof(T)};
  }

  /// The layout of `value` as it stands in memory; of an array, that of all its elements.
  template <class T>
  [[nodiscard]] static constexpr Layout for_value([[maybe_unused]] const T& value) noexcept {
    return of<T>();
  }

  /// The layout of all the elements that `elements` refers to. Cannot fail: they exist already.
  template <class T, std::size_t Extent>
  [[nodiscard]] static constexpr Layout for_value(std::span<T, Extent> elements) noexcept {
    return Layout{elements.size_bytes(), alignof(T)};
  }

  /// The layout of `size` bytes at a multiple of `align` bytes.
  /// Fails with LayoutError when `align` is zero or no power of two, or when `size` rounded up to
  /// `align` exceeds PTRDIFF_MAX. A size of zero is valid.
  [[nodiscard]] static constexpr std::expected<Layout, LayoutError> from_size_align(
      std::size_t size, std::size_t align) noexcept {
    if (!is_valid(size, align)) return std::unexpected(LayoutError{});
    return Layout{size, align};
  }

  /// As from_size_align, without the check: the caller knows that it would succeed. Asserted in
  /// debug builds; otherwise a wrong pair is undefined behaviour of whatever the Layout is given
  /// to.
  [[nodiscard]] static constexpr Layout from_size_align_unchecked(std::size_t size,
                                                                  std::size_t align) noexcept {
    assert(is_valid(size, align) && "Layout: align is no power of two, or size is too large");
    return Layout{size, align};
  }

  /// The layout of an array of `count` objects of type T. Fails when it would exceed PTRDIFF_MAX.
  template <class T>
  [[nodiscard]] static constexpr std::expected<Layout, LayoutError> array(
      std::size_t count) noexcept {
    // sizeof is a multiple of alignof, so the product needs no rounding.
    if (count > max_bytes / sizeof(T)) return std::unexpected(LayoutError{});
    return Layout{count * sizeof(T), alignof(T)};
  }

  /// The size in bytes; need not be a multiple of align().
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }

  /// The alignment in bytes; a power of two.
  [[nodiscard]] constexpr std::size_t align() const noexcept { return align_; }

  /// This layout with its alignment raised to at least `align` bytes; the size stays.
  /// Fails as from_size_align does.
  [[nodiscard]] constexpr std::expected<Layout, LayoutError> align_to(
      std::size_t align) const noexcept {
    // Asked of `align` itself too: 0 and 3 are errors even where this alignment is larger.
    if (!detail::is_power_of_two(align)) return std::unexpected(LayoutError{});
    return from_size_align(size_, align > align_ ? align : align_);
  }

  /// The bytes to insert after this layout so that what follows starts at a multiple of `align`.
  /// Returns SIZE_MAX when `align` is no power of two. At most align - 1 otherwise.
  [[nodiscard]] constexpr std::size_t padding_needed_for(std::size_t align) const noexcept {
    if (!detail::is_power_of_two(align)) return SIZE_MAX;
    return (0 - size_) & (align - 1);
  }

  /// This layout with its size rounded up to a multiple of its alignment, as sizeof does for a
  /// struct. Cannot fail, by the invariant.
  [[nodiscard]] constexpr Layout pad_to_align() const noexcept {
    return Layout{size_ + padding_needed_for(align_), align_};
  }

  /// `count` objects of this layout one after another, each at its alignment. Returns the layout of
  /// the whole and the distance in bytes from the start of one to the start of the next. The last
  /// one is not padded: pad_to_align() does that. Fails when the whole would exceed PTRDIFF_MAX.
  [[nodiscard]] constexpr std::expected<std::pair<Layout, std::size_t>, LayoutError> repeat(
      std::size_t count) const noexcept {
    const std::size_t stride = pad_to_align().size_;
    if (count == 0) return std::pair{Layout{0, align_}, stride};
    if (stride != 0 && count - 1 > max_bytes / stride) return std::unexpected(LayoutError{});
    // Both terms are at most PTRDIFF_MAX, so the sum cannot wrap around.
    const std::size_t size = (count - 1) * stride + size_;
    if (!is_valid(size, align_)) return std::unexpected(LayoutError{});
    return std::pair{Layout{size, align_}, stride};
  }

  /// The layout of a record of this one followed by `next`, with the padding that `next` needs
  /// between them. Returns it with the offset of `next` in bytes. The end is not padded: call
  /// pad_to_align() after the last field to match a C struct. Fails when it exceeds PTRDIFF_MAX.
  [[nodiscard]] constexpr std::expected<std::pair<Layout, std::size_t>, LayoutError> extend(
      Layout next) const noexcept {
    const std::size_t align = next.align_ > align_ ? next.align_ : align_;
    // Neither sum can wrap around: every term is at most PTRDIFF_MAX, and the padding brings the
    // size to a value that is_valid() then bounds before the next term is added.
    const std::size_t offset = size_ + padding_needed_for(next.align_);
    if (offset > max_bytes) return std::unexpected(LayoutError{});
    const std::size_t size = offset + next.size_;
    if (!is_valid(size, align)) return std::unexpected(LayoutError{});
    return std::pair{Layout{size, align}, offset};
  }

  /// A pointer that is not null and is a multiple of align(), for blocks of size zero. It points to
  /// nothing: never read or write through it, never deallocate it.
  [[nodiscard]] std::byte* dangling() const noexcept {
    return reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(align_));
  }

  friend constexpr bool operator==(Layout, Layout) noexcept = default;

 private:
  static constexpr std::size_t max_bytes = PTRDIFF_MAX;

  constexpr Layout(std::size_t size, std::size_t align) noexcept : size_(size), align_(align) {}

  static constexpr bool is_valid(std::size_t size, std::size_t align) noexcept {
    // Written so that nothing overflows: the largest valid size is PTRDIFF_MAX rounded down.
    return detail::is_power_of_two(align) && size <= (max_bytes + 1 - align);
  }

  std::size_t size_;
  std::size_t align_;
};

namespace detail {

/// `Layout { size: 24, align: 8 }`
constexpr auto text_of(Layout layout) noexcept {
  Text<80> text;
  text << "Layout { size: " << layout.size() << ", align: " << layout.align() << " }";
  return text;
}

}  // namespace detail

/// Prints `Layout { size: 24, align: 8 }`, padded as a whole and in decimal whatever `out` does
/// with numbers.
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out, Layout layout) {
  return out << detail::text_of(layout).c_str();
}

/// Prints LayoutError::what().
template <class Char, class Traits>
std::basic_ostream<Char, Traits>& operator<<(std::basic_ostream<Char, Traits>& out,
                                             LayoutError error) {
  return out << error.what();
}

}  // namespace sysalloc

/// Hashes size and alignment; equal layouts have equal hashes.
template <>
struct std::hash<sysalloc::Layout> {
  [[nodiscard]] std::size_t operator()(sysalloc::Layout layout) const noexcept {
    // The alignment is a power of two: its exponent rotated into the top bits keeps layouts of
    // equal size apart without disturbing the size.
    return std::hash<std::size_t>{}(
        layout.size() ^ std::rotr(static_cast<std::size_t>(std::countr_zero(layout.align())), 6));
  }
};

#if defined(__cpp_lib_format)
/// Formats as operator<< prints; takes the width, fill and precision of a string.
template <>
struct std::formatter<sysalloc::Layout> : sysalloc::detail::TextFormatter {
  template <class Context>
  auto format(sysalloc::Layout layout, Context& context) const {
    return write(sysalloc::detail::text_of(layout).view(), context);
  }
};
#endif

#endif  // SYSALLOC_LAYOUT_HPP_
