// The trees: nodes are variants that own what is below them. Rows of any length
// (arguments, statements, words) are vectors, so that a tree is no deeper than
// the brackets and operators of its text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace ast {

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

}  // namespace ast
