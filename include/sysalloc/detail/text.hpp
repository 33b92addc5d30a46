// Text: how a value prints.
//
// One text for streams and std::format, written as a whole: so width and fill are of the whole, and
// what a stream was told of numbers (std::hex, a locale that groups digits) changes nothing. In a
// buffer of its own, for a program may print from inside of its allocator.

#ifndef SYSALLOC_DETAIL_TEXT_HPP_
#define SYSALLOC_DETAIL_TEXT_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#if __has_include(<format>)
#include <format>
#endif

namespace sysalloc::detail {

/// A text of at most `Capacity` characters; what does not fit is cut off.
template <std::size_t Capacity>
class Text {
 public:
  constexpr Text& operator<<(const char* text) noexcept {
    while (*text != '\0') put(*text++);
    return *this;
  }
  constexpr Text& operator<<(std::size_t number) noexcept { return digits(number, 10); }
  Text& operator<<(const void* ptr) noexcept {
    *this << "0x";
    return digits(reinterpret_cast<std::uintptr_t>(ptr), 16);
  }
  /// Puts blanks until `column`.
  constexpr Text& to(std::size_t column) noexcept {
    while (size_ < column && size_ < Capacity) put(' ');
    return *this;
  }

  /// With a zero behind it: that a stream of any character type takes.
  [[nodiscard]] constexpr const char* c_str() const noexcept { return chars_.data(); }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {chars_.data(), size_}; }

 private:
  constexpr void put(char c) noexcept {
    if (size_ < Capacity) chars_[size_++] = c;
  }
  constexpr Text& digits(std::size_t number, std::size_t base) noexcept {
    std::size_t unit = 1;
    while (number / unit >= base) unit *= base;
    for (; unit != 0; unit /= base) put("0123456789abcdef"[number / unit % base]);
    return *this;
  }

  std::array<char, Capacity + 1> chars_{};
  std::size_t size_ = 0;
};

#if defined(__cpp_lib_format)
/// The base of a std::formatter: takes what one of strings takes. It has one and is none, since a
/// range would tell a formatter of strings to quote.
class TextFormatter {
 public:
  constexpr auto parse(std::format_parse_context& context) { return formatter_.parse(context); }

 protected:
  template <class Context>
  auto write(std::string_view text, Context& context) const {
    return formatter_.format(text, context);
  }

 private:
  std::formatter<std::string_view> formatter_;
};
#endif

}  // namespace sysalloc::detail

#endif  // SYSALLOC_DETAIL_TEXT_HPP_
