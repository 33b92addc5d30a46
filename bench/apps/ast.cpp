// A small compiler's front end: the headers are taken apart into tokens and
// parsed into trees of variant nodes; names that the headers #define as an
// expression are replaced by a copy of it, constants are folded, and the
// trees are printed and destroyed.
//
// The grammar is a tolerant reading of C++: operators with their precedence,
// groups in brackets, statements, and words that merely stand side by side
// (`const int n`). It knows no types, so it never fails; what it makes of
// templates is not what a compiler would, but a tree of the same kind and size.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/string_map.hpp"
#include "common/text.hpp"

namespace {

// Tokens.

enum class Kind { number, name, quoted, symbol, directive };

struct Token {
  Kind kind;
  std::string_view text;
};

// Longest first, where one begins with another.
constexpr std::array<std::string_view, 24> long_symbols = {
    "<<=", ">>=", "...", "->*", "<=>", "::", "->", "++", "--", "<<", ">>", "<=",
    ">=",  "==",  "!=",  "&&",  "||",  "+=", "-=", "*=", "/=", "%=", "&=", "|="};

// The length of a quoted text, a backslash keeping the next character from
// ending it; it ends with its line at the latest.
std::size_t quoted_length(std::string_view text) {
  const char quote = text.front();
  std::size_t i = 1;
  while (i < text.size() && text[i] != quote && text[i] != '\n') i += text[i] == '\\' ? 2 : 1;
  return std::min(i + 1, text.size());
}

// A directive ends with its line, but for lines ended by a backslash.
std::size_t directive_length(std::string_view text) {
  std::size_t end = text.find('\n');
  while (end != std::string_view::npos && end > 0 && text[end - 1] == '\\') {
    end = text.find('\n', end + 1);
  }
  return std::min(end, text.size());
}

std::size_t comment_length(std::string_view text) {
  if (text.starts_with("//")) return std::min(text.find('\n'), text.size());
  if (!text.starts_with("/*")) return 0;
  const std::size_t end = text.find("*/", 2);
  return end == std::string_view::npos ? text.size() : end + 2;
}

Token first_token(std::string_view text) {
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

std::vector<Token> tokenise(std::string_view text) {
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

// Trees. Rows of any length (arguments, statements, words) are vectors, so
// that a tree is no deeper than the brackets and operators of the text.

struct Node;
using Tree = std::unique_ptr<Node>;

struct Nothing {};
struct Number {
  std::uint64_t value;
};
struct Name {
  std::string text;
};
struct Quoted {
  std::string text;
};
struct Unary {
  std::string symbol;
  Tree operand;
};
struct Binary {
  std::string symbol;
  Tree left;
  Tree right;
};
// Words side by side.
struct Phrase {
  std::vector<Tree> words;
};
// "(...)", "[...]" or "{...}", or with no bracket a whole file.
struct Group {
  std::string open;
  std::vector<Tree> items;
};

struct Node {
  std::variant<Nothing, Number, Name, Quoted, Unary, Binary, Phrase, Group> value;
};

template <class Value>
Tree make(Value value) {
  return std::make_unique<Node>(Node{std::move(value)});
}

// The parser.

// Zero for what is no binary operator; commas and semicolons separate items.
int precedence(std::string_view symbol) {
  static const std::map<std::string_view, int> table = {
      {"=", 1},  {"+=", 1},  {"-=", 1},   {"*=", 1},  {"/=", 1},  {"%=", 1}, {"&=", 1},
      {"|=", 1}, {"<<=", 1}, {"?", 2},    {":", 2},   {"||", 3},  {"&&", 4}, {"|", 5},
      {"^", 6},  {"&", 7},   {"==", 8},   {"!=", 8},  {"<", 9},   {">", 9},  {"<=", 9},
      {">=", 9}, {"<=>", 9}, {"<<", 10},  {">>", 10}, {"+", 11},  {"-", 11}, {"*", 12},
      {"/", 12}, {"%", 12},  {"->*", 13}, {"::", 14}, {"->", 14}, {".", 14}, {"...", 14}};
  const auto found = table.find(symbol);
  return found == table.end() ? 0 : found->second;
}

constexpr int assignment_precedence = 1;

bool is_prefix(std::string_view symbol) {
  constexpr std::string_view single = "+-!~*&";
  return symbol == "++" || symbol == "--" || symbol == "::" || symbol == "..." ||
         (symbol.size() == 1 && single.contains(symbol.front()));
}

std::string_view closing(std::string_view open) {
  if (open == "(") return ")";
  if (open == "[") return "]";
  return open == "{" ? "}" : "";
}

bool is_closing(std::string_view symbol) { return symbol == ")" || symbol == "]" || symbol == "}"; }

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

// Definitions and conditions among the directives.

using Definitions = bench::StringMap<Tree>;

// The text after `#keyword`, if the directive has that keyword.
std::optional<std::string_view> after_keyword(std::string_view directive,
                                              std::string_view keyword) {
  directive = bench::trim(directive.substr(1));
  if (!directive.starts_with(keyword)) return std::nullopt;
  directive.remove_prefix(keyword.size());
  if (!directive.empty() && bench::is_letter(directive.front())) return std::nullopt;
  return bench::trim(directive);
}

Tree parse_text(std::string_view text) {
  const std::vector<Token> tokens = tokenise(text);
  return Parser(tokens).parse_expression();
}

// `#define NAME expression`; neither an empty one nor one with parameters.
void define(std::string_view text, Definitions& definitions) {
  if (text.empty() || !bench::is_letter(text.front())) return;
  const std::string_view name = first_token(text).text;
  text.remove_prefix(name.size());
  if (text.empty() || !bench::is_space(text.front())) return;
  Tree body = parse_text(bench::trim(text));
  bench::value_of(definitions, name) = std::move(body);
}

// Rewriting.

Tree clone(const Tree& tree);

std::vector<Tree> clone(const std::vector<Tree>& trees) {
  std::vector<Tree> copies;
  for (const Tree& tree : trees) copies.push_back(clone(tree));
  return copies;
}

struct Clone {
  Tree operator()(const Unary& node) const { return make(Unary{node.symbol, clone(node.operand)}); }
  Tree operator()(const Binary& node) const {
    return make(Binary{node.symbol, clone(node.left), clone(node.right)});
  }
  Tree operator()(const Phrase& node) const { return make(Phrase{clone(node.words)}); }
  Tree operator()(const Group& node) const { return make(Group{node.open, clone(node.items)}); }
  template <class Leaf>
  Tree operator()(const Leaf& leaf) const {
    return make(leaf);
  }
};

Tree clone(const Tree& tree) { return std::visit(Clone(), tree->value); }

// Calls back for each tree right below a node.
template <class Callback>
void for_each_child(Node& node, Callback&& callback) {
  if (auto* unary = std::get_if<Unary>(&node.value)) {
    callback(unary->operand);
  } else if (auto* binary = std::get_if<Binary>(&node.value)) {
    callback(binary->left);
    callback(binary->right);
  } else if (auto* phrase = std::get_if<Phrase>(&node.value)) {
    for (Tree& word : phrase->words) callback(word);
  } else if (auto* group = std::get_if<Group>(&node.value)) {
    for (Tree& item : group->items) callback(item);
  }
}

// The copies are not searched again: definitions may name each other.
void expand(Tree& tree, const Definitions& definitions) {
  if (const auto* name = std::get_if<Name>(&tree->value)) {
    if (const auto found = definitions.find(name->text); found != definitions.end()) {
      tree = clone(found->second);
    }
    return;
  }
  for_each_child(*tree, [&](Tree& child) { expand(child, definitions); });
}

std::optional<std::uint64_t> folded(std::string_view symbol, std::uint64_t a, std::uint64_t b) {
  if (symbol == "+") return a + b;
  if (symbol == "-") return a - b;
  if (symbol == "*") return a * b;
  if (symbol == "/" && b != 0) return a / b;
  if (symbol == "%" && b != 0) return a % b;
  if (symbol == "<<" && b < 64) return a << b;
  if (symbol == ">>" && b < 64) return a >> b;
  if (symbol == "&") return a & b;
  if (symbol == "|") return a | b;
  if (symbol == "^") return a ^ b;
  if (symbol == "==") return a == b;
  if (symbol == "!=") return a != b;
  if (symbol == "<") return a < b;
  if (symbol == ">") return a > b;
  if (symbol == "<=") return a <= b;
  if (symbol == ">=") return a >= b;
  if (symbol == "&&") return a != 0 && b != 0;
  if (symbol == "||") return a != 0 || b != 0;
  return std::nullopt;
}

// Bottom up: a tree whose operands became numbers becomes one itself, and
// brackets round a single number or name fall away.
void fold(Tree& tree) {
  for_each_child(*tree, fold);
  if (const auto* binary = std::get_if<Binary>(&tree->value)) {
    const auto* left = std::get_if<Number>(&binary->left->value);
    const auto* right = std::get_if<Number>(&binary->right->value);
    if (left == nullptr || right == nullptr) return;
    if (const auto value = folded(binary->symbol, left->value, right->value)) {
      tree = make(Number{*value});
    }
  } else if (auto* group = std::get_if<Group>(&tree->value)) {
    if (group->open != "(" || group->items.size() != 1) return;
    const Node& only = *group->items.front();
    if (!std::holds_alternative<Number>(only.value) && !std::holds_alternative<Name>(only.value)) {
      return;
    }
    // Out of the tree first, since the assignment destroys the group.
    Tree inner = std::move(group->items.front());
    tree = std::move(inner);
  }
}

// Printing, in prefix form: (symbol left right).

void print(const Tree& tree, std::string& text);

struct Print {
  std::string& text;

  void operator()(const Nothing&) const { text += "()"; }
  void operator()(const Number& node) const { text += std::to_string(node.value); }
  void operator()(const Name& node) const { text += node.text; }
  void operator()(const Quoted& node) const { text += node.text; }
  void operator()(const Unary& node) const {
    text += "(" + node.symbol + " ";
    print(node.operand, text);
    text += ')';
  }
  void operator()(const Binary& node) const {
    text += "(" + node.symbol + " ";
    print(node.left, text);
    text += ' ';
    print(node.right, text);
    text += ')';
  }
  void operator()(const Phrase& node) const { print_all("(", node.words, ")"); }
  void operator()(const Group& node) const { print_all(node.open, node.items, closing(node.open)); }

  void print_all(std::string_view open, const std::vector<Tree>& trees,
                 std::string_view close) const {
    text += open;
    for (const Tree& tree : trees) {
      print(tree, text);
      text += ' ';
    }
    text += close;
  }
};

void print(const Tree& tree, std::string& text) { std::visit(Print{text}, tree->value); }

std::size_t count(Tree& tree) {
  std::size_t nodes = 1;
  for_each_child(*tree, [&](Tree& child) { nodes += count(child); });
  return nodes;
}

std::uint64_t work(const bench::Corpus& corpus) {
  Definitions definitions;
  std::vector<Tree> trees;
  for (const bench::SourceFile& file : corpus) {
    const std::vector<Token> tokens = tokenise(file.text);
    Group conditions;
    for (const Token& token : tokens) {
      if (token.kind != Kind::directive) continue;
      if (const auto definition = after_keyword(token.text, "define")) {
        define(*definition, definitions);
      } else if (const auto condition = after_keyword(token.text, "if")) {
        conditions.items.push_back(parse_text(*condition));
      }
    }
    trees.push_back(Parser(tokens).parse_file());
    trees.push_back(make(std::move(conditions)));
  }

  bench::Checksum checksum;
  std::size_t before = 0;
  std::size_t after = 0;
  for (Tree& tree : trees) {
    before += count(tree);
    expand(tree, definitions);
    fold(tree);
    after += count(tree);
    std::string text;
    print(tree, text);
    checksum.add(text);
  }
  std::printf("%zu nodes in %zu trees, %zu after rewriting\n", before, trees.size(), after);
  checksum.add(before);
  checksum.add(after);
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"ast", 8 << 20, work}, argc, argv); }
