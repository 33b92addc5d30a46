// Trees to other trees: names replaced by copies of their definition, and
// constants folded.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "../common/string_map.hpp"
#include "tree.hpp"

namespace ast {

using Definitions = bench::StringMap<Tree>;

inline Tree clone(const Tree& tree);

inline std::vector<Tree> clone(const std::vector<Tree>& trees) {
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

inline Tree clone(const Tree& tree) { return std::visit(Clone(), tree->value); }

// The copies are not searched again: definitions may name each other.
inline void expand(Tree& tree, const Definitions& definitions) {
  if (const auto* name = std::get_if<Name>(&tree->value)) {
    if (const auto found = definitions.find(name->text); found != definitions.end()) {
      tree = clone(found->second);
    }
    return;
  }
  for_each_child(*tree, [&](Tree& child) { expand(child, definitions); });
}

inline std::optional<std::uint64_t> folded(std::string_view symbol, std::uint64_t a,
                                           std::uint64_t b) {
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
inline void fold(Tree& tree) {
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

}  // namespace ast
