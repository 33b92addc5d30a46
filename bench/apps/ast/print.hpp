// Trees to text, in prefix form: (symbol left right).
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tree.hpp"

namespace ast {

inline void print(const Tree& tree, std::string& text);

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

inline void print(const Tree& tree, std::string& text) { std::visit(Print{text}, tree->value); }

}  // namespace ast
