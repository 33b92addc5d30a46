// Taking text apart: lines, and the identifiers in a line. The callbacks get
// views into the text, nothing is copied.
#pragma once

#include <cstddef>
#include <string_view>

namespace bench {

// Not <cctype>, whose functions depend on the locale.
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
constexpr bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

constexpr std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

template <class Callback>
void for_each_line(std::string_view text, Callback&& callback) {
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    callback(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// Identifiers as C++ has them; a number's letters (0xff) are none.
template <class Callback>
void for_each_word(std::string_view text, Callback&& callback) {
  const auto is_inside = [](char c) { return is_letter(c) || is_digit(c); };
  for (std::size_t i = 0; i < text.size();) {
    if (!is_inside(text[i])) {
      ++i;
      continue;
    }
    const std::size_t begin = i;
    while (i < text.size() && is_inside(text[i])) ++i;
    if (is_letter(text[begin])) callback(text.substr(begin, i - begin));
  }
}

// The file an #include line names, empty if it is another line.
constexpr std::string_view included_file(std::string_view line) {
  line = trim(line);
  if (!line.starts_with('#')) return {};
  line = trim(line.substr(1));
  constexpr std::string_view keyword = "include";
  if (!line.starts_with(keyword)) return {};
  line = trim(line.substr(keyword.size()));
  if (line.empty() || (line.front() != '<' && line.front() != '"')) return {};
  const char close = line.front() == '<' ? '>' : '"';
  const std::size_t end = line.find(close, 1);
  return end == std::string_view::npos ? std::string_view() : line.substr(1, end - 1);
}

}  // namespace bench
