// Text to tokens. A preprocessor directive is one token; comments are none.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "../common/text.hpp"

namespace ast {

enum class Kind { number, name, quoted, symbol, directive };

struct Token {
  Kind kind;
  std::string_view text;
};

// Longest first, where one begins with another.
inline constexpr std::array<std::string_view, 24> long_symbols = {
    "<<=", ">>=", "...", "->*", "<=>", "::", "->", "++", "--", "<<", ">>", "<=",
    ">=",  "==",  "!=",  "&&",  "||",  "+=", "-=", "*=", "/=", "%=", "&=", "|="};

// The length of a quoted text, a backslash keeping the next character from
// ending it; it ends with its line at the latest.
inline std::size_t quoted_length(std::string_view text) {
  const char quote = text.front();
  std::size_t i = 1;
  while (i < text.size() && text[i] != quote && text[i] != '\n') i += text[i] == '\\' ? 2 : 1;
  return std::min(i + 1, text.size());
}

// A directive ends with its line, but for lines ended by a backslash.
inline std::size_t directive_length(std::string_view text) {
  std::size_t end = text.find('\n');
  while (end != std::string_view::npos && end > 0 && text[end - 1] == '\\') {
    end = text.find('\n', end + 1);
  }
  return std::min(end, text.size());
}

inline std::size_t comment_length(std::string_view text) {
  if (text.starts_with("//")) return std::min(text.find('\n'), text.size());
  if (!text.starts_with("/*")) return 0;
  const std::size_t end = text.find("*/", 2);
  return end == std::string_view::npos ? text.size() : end + 2;
}

inline Token first_token(std::string_view text) {
  const char c = text.front();
  if (bench::is_letter(c) || bench::is_digit(c)) {
    std::size_t length = 1;
    while (length < text.size() &&
           (bench::is_letter(text[length]) || bench::is_digit(text[length]))) {
      ++length;
    }
    return {bench::is_digit(c) ? Kind::number : Kind::name, text.substr(0, length)};
  }
  if (c == '"' || c == '\'') return {Kind::quoted, text.substr(0, quoted_length(text))};
  if (c == '#') return {Kind::directive, text.substr(0, directive_length(text))};
  for (const std::string_view symbol : long_symbols) {
    if (text.starts_with(symbol)) return {Kind::symbol, text.substr(0, symbol.size())};
  }
  return {Kind::symbol, text.substr(0, 1)};
}

inline std::vector<Token> tokenise(std::string_view text) {
  std::vector<Token> tokens;
  while (!text.empty()) {
    if (bench::is_space(text.front()) || text.front() == '\\') {
      text.remove_prefix(1);
    } else if (const std::size_t length = comment_length(text); length != 0) {
      text.remove_prefix(length);
    } else {
      tokens.push_back(first_token(text));
      text.remove_prefix(tokens.back().text.size());
    }
  }
  return tokens;
}

}  // namespace ast
