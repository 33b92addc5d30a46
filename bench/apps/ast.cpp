// A small compiler's front end: the headers are taken apart into tokens and
// parsed into trees of variant nodes; names that the headers #define as an
// expression are replaced by a copy of it, constants are folded, and the
// trees are printed and destroyed.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ast/parser.hpp"
#include "ast/print.hpp"
#include "ast/rewrite.hpp"
#include "ast/token.hpp"
#include "ast/tree.hpp"
#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/string_map.hpp"
#include "common/text.hpp"

namespace {

using ast::Definitions;
using ast::Group;
using ast::Kind;
using ast::Parser;
using ast::Token;
using ast::Tree;

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
  const std::vector<Token> tokens = ast::tokenise(text);
  return Parser(tokens).parse_expression();
}

// `#define NAME expression`; neither an empty one nor one with parameters.
void define(std::string_view text, Definitions& definitions) {
  if (text.empty() || !bench::is_letter(text.front())) return;
  const std::string_view name = ast::first_token(text).text;
  text.remove_prefix(name.size());
  if (text.empty() || !bench::is_space(text.front())) return;
  Tree body = parse_text(bench::trim(text));
  bench::value_of(definitions, name) = std::move(body);
}

std::size_t count(Tree& tree) {
  std::size_t nodes = 1;
  for_each_child(*tree, [&](Tree& child) { nodes += count(child); });
  return nodes;
}

std::uint64_t work(const bench::Corpus& corpus) {
  Definitions definitions;
  std::vector<Tree> trees;
  for (const bench::SourceFile& file : corpus) {
    const std::vector<Token> tokens = ast::tokenise(file.text);
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
    trees.push_back(ast::make(std::move(conditions)));
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
