// Text: how a value prints.
//
// One text for streams and std::format, written as a whole: so width and fill are of the whole, and
// what a stream was told of numbers (std::hex, a locale that groups digits) changes nothing. In a
// buffer of its own, for a program may print from inside of its allocator.

#ifndef SYSALLOC_DETAIL_TEXT_HPP_
#define SYSALLOC_DETAIL_TEXT_HPP_

#include <array>
#include <cstddef>
#include <string_view>

#if __has_include(<format>)
#include <format>
#endif

namespace sysalloc::detail {

/// A text of at most `Capacity` characters: whoever adds to it knows how many they are.
template <std::size_t Capacity>
class Text {
 public:
  constexpr Text& operator<<(std::string_view text) noexcept {
    for (const char c : text) chars_[size_++] = c;
    return *this;
  }
  constexpr Text& operator<<(std::size_t number) noexcept {
    std::size_t unit = 1;
    while (number / unit >= 10) unit *= 10;
    for (; unit != 0; unit /= 10) chars_[size_++] = static_cast<char>('0' + number / unit % 10);
    return *this;
  }

  /// With a zero behind it: that a stream of any character type takes.
  [[nodiscard]] constexpr const char* c_str() const noexcept { return chars_.data(); }
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {chars_.data(), size_}; }

 private:
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
