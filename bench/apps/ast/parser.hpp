// Tokens to trees. The grammar is a tolerant reading of C++: operators with
// their precedence, groups in brackets, statements, and words that merely stand
// side by side (`const int n`). It knows no types, so it never fails; what it
// makes of templates is not what a compiler would, but a tree of the same kind
// and size.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "token.hpp"
#include "tree.hpp"

namespace ast {

// Zero for what is no binary operator; commas and semicolons separate items.
inline int precedence(std::string_view symbol) {
  static const std::map<std::string_view, int> table = {
      {"=", 1},  {"+=", 1},  {"-=", 1},   {"*=", 1},  {"/=", 1},  {"%=", 1}, {"&=", 1},
      {"|=", 1}, {"<<=", 1}, {"?", 2},    {":", 2},   {"||", 3},  {"&&", 4}, {"|", 5},
      {"^", 6},  {"&", 7},   {"==", 8},   {"!=", 8},  {"<", 9},   {">", 9},  {"<=", 9},
      {">=", 9}, {"<=>", 9}, {"<<", 10},  {">>", 10}, {"+", 11},  {"-", 11}, {"*", 12},
      {"/", 12}, {"%", 12},  {"->*", 13}, {"::", 14}, {"->", 14}, {".", 14}, {"...", 14}};
  const auto found = table.find(symbol);
  return found == table.end() ? 0 : found->second;
}

inline constexpr int assignment_precedence = 1;

inline bool is_prefix(std::string_view symbol) {
  constexpr std::string_view single = "+-!~*&";
  return symbol == "++" || symbol == "--" || symbol == "::" || symbol == "..." ||
         (symbol.size() == 1 && single.contains(symbol.front()));
}

inline std::string_view closing(std::string_view open) {
  if (open == "(") return ")";
  if (open == "[") return "]";
  return open == "{" ? "}" : "";
}

inline bool is_closing(std::string_view symbol) {
  return symbol == ")" || symbol == "]" || symbol == "}";
}

class Parser {
 public:
  explicit Parser(const std::vector<Token>& tokens) : tokens_(tokens) {}

  Tree parse_file() {
    Group file;
    while (!at_end()) {
      parse_items(file.items);
      // A bracket that nothing opened, in one branch of an #if.
      if (!at_end()) ++position_;
    }
    return make(std::move(file));
  }

  Tree parse_expression(int lowest = assignment_precedence) {
    Tree left = parse_unary();
    while (!at_end() && peek().kind == Kind::symbol) {
      const std::string_view symbol = peek().text;
      const int strength = precedence(symbol);
      if (strength == 0 || strength < lowest) break;
      ++position_;
      const bool right_first = strength <= 2;
      Tree right = parse_expression(right_first ? strength : strength + 1);
      left = make(Binary{std::string(symbol), std::move(left), std::move(right)});
    }
    return left;
  }

 private:
  bool at_end() const { return position_ == tokens_.size(); }
  const Token& peek() const { return tokens_[position_]; }
  bool at(std::string_view symbol) const {
    return !at_end() && peek().kind == Kind::symbol && peek().text == symbol;
  }

  void parse_items(std::vector<Tree>& items) {
    while (!at_end() && !(peek().kind == Kind::symbol && is_closing(peek().text))) {
      if (at(",") || at(";") || peek().kind == Kind::directive) {
        ++position_;
        continue;
      }
      const std::size_t begin = position_;
      items.push_back(parse_expression());
      // A symbol that can begin nothing.
      if (position_ == begin) ++position_;
    }
  }

  Tree parse_unary() {
    if (!at_end() && peek().kind == Kind::symbol && is_prefix(peek().text)) {
      std::string symbol(peek().text);
      ++position_;
      return make(Unary{std::move(symbol), parse_unary()});
    }
    return parse_phrase();
  }

  Tree parse_phrase() {
    Tree first = parse_word();
    if (!first) return make(Nothing{});
    Tree next = ends_statement(*first) ? nullptr : parse_word();
    if (!next) return first;
    Phrase phrase;
    phrase.words.push_back(std::move(first));
    while (next) {
      const bool is_last = ends_statement(*next);
      phrase.words.push_back(std::move(next));
      next = is_last ? nullptr : parse_word();
    }
    return make(std::move(phrase));
  }

  // After a body in braces the next statement begins.
  static bool ends_statement(const Node& node) {
    const Group* group = std::get_if<Group>(&node.value);
    return group != nullptr && group->open == "{";
  }

  // Null if the next token begins no word.
  Tree parse_word() {
    if (at_end()) return nullptr;
    const Token token = peek();
    switch (token.kind) {
      case Kind::number:
        ++position_;
        return number(token.text);
      case Kind::name:
        ++position_;
        return make(Name{std::string(token.text)});
      case Kind::quoted:
        ++position_;
        return make(Quoted{std::string(token.text)});
      case Kind::symbol:
        return closing(token.text).empty() ? nullptr : parse_group();
      case Kind::directive:
        return nullptr;
    }
    return nullptr;
  }

  Tree parse_group() {
    Group group{std::string(peek().text), {}};
    ++position_;
    parse_items(group.items);
    if (at(closing(group.open))) ++position_;
    return make(std::move(group));
  }

  // Suffixes do not matter here; what is not an integer stays a text.
  static Tree number(std::string_view text) {
    const bool is_hex = text.starts_with("0x") || text.starts_with("0X");
    const std::string_view digits = is_hex ? text.substr(2) : text;
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, is_hex ? 16 : 10);
    constexpr std::string_view suffixes = "uUlLzZ";
    const auto is_suffix = [&](char c) { return suffixes.contains(c); };
    if (error != std::errc() || !std::all_of(end, digits.data() + digits.size(), is_suffix)) {
      return make(Quoted{std::string(text)});
    }
    return make(Number{value});
  }

  const std::vector<Token>& tokens_;
  std::size_t position_ = 0;
};

}  // namespace ast
