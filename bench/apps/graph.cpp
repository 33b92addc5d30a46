// Graphs of the headers: which file includes which, and which name follows
// which. Both are searched for strongly connected components (Tarjan), the
// first for all that a file includes, directly or not, and the second for the
// cheapest ways between names (Dijkstra).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <map>
#include <queue>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/string_map.hpp"
#include "common/text.hpp"

namespace {

using Node = std::uint32_t;

struct Edge {
  Node to;
  std::uint32_t cost;
};

using Graph = std::vector<std::vector<Edge>>;
using Components = std::vector<std::vector<Node>>;

// Files are known by all the endings of their path: "bits/regex.h" names
// "/usr/include/c++/12/bits/regex.h". The first file of a name wins.
bench::StringMap<Node> names_of(const bench::Corpus& corpus) {
  bench::StringMap<Node> names;
  for (Node file = 0; file < corpus.size(); ++file) {
    const std::string_view path = corpus[file].path;
    for (std::size_t slash = path.rfind('/'); slash != std::string_view::npos && slash != 0;
         slash = path.rfind('/', slash - 1)) {
      names.try_emplace(std::string(path.substr(slash + 1)), file);
    }
  }
  return names;
}

Graph include_graph(const bench::Corpus& corpus) {
  const bench::StringMap<Node> names = names_of(corpus);
  Graph graph(corpus.size());
  for (Node file = 0; file < corpus.size(); ++file) {
    std::set<Node> included;
    bench::for_each_line(corpus[file].text, [&](std::string_view line) {
      const auto found = names.find(bench::included_file(line));
      if (found != names.end()) included.insert(found->second);
    });
    for (const Node to : included) graph[file].push_back({to, 1});
  }
  return graph;
}

// An edge from each name to the next on its line, the cheaper the more often
// the two stand together.
Graph name_graph(const bench::Corpus& corpus) {
  bench::StringMap<Node> nodes;
  std::vector<std::map<Node, std::uint32_t>> followers;
  for (const bench::SourceFile& file : corpus) {
    bench::for_each_line(file.text, [&](std::string_view line) {
      constexpr Node none = std::numeric_limits<Node>::max();
      Node previous = none;
      bench::for_each_word(line, [&](std::string_view word) {
        auto found = nodes.find(word);
        if (found == nodes.end()) {
          found = nodes.emplace(word, static_cast<Node>(nodes.size())).first;
          followers.emplace_back();
        }
        if (previous != none) ++followers[previous][found->second];
        previous = found->second;
      });
    });
  }
  Graph graph(followers.size());
  for (Node from = 0; from < graph.size(); ++from) {
    for (const auto& [to, times] : followers[from]) graph[from].push_back({to, 1 + 1000 / times});
  }
  return graph;
}

// Tarjan's algorithm with a stack of its own: chains of names are too long for
// recursion.
Components strong_components(const Graph& graph) {
  constexpr std::uint32_t unseen = 0;
  struct Visit {
    Node node;
    std::size_t next_edge;
  };
  std::vector<std::uint32_t> order(graph.size(), unseen);
  std::vector<std::uint32_t> lowest(graph.size(), unseen);
  std::vector<bool> is_open(graph.size(), false);
  std::vector<Node> open;
  Components components;
  std::uint32_t count = 0;

  for (Node root = 0; root < graph.size(); ++root) {
    if (order[root] != unseen) continue;
    std::vector<Visit> path = {{root, 0}};
    while (!path.empty()) {
      auto& [node, next_edge] = path.back();
      if (next_edge == 0 && order[node] == unseen) {
        order[node] = lowest[node] = ++count;
        open.push_back(node);
        is_open[node] = true;
      }
      if (next_edge < graph[node].size()) {
        const Node to = graph[node][next_edge++].to;
        if (order[to] == unseen) {
          path.push_back({to, 0});
        } else if (is_open[to]) {
          lowest[node] = std::min(lowest[node], order[to]);
        }
        continue;
      }
      if (lowest[node] == order[node]) {
        std::vector<Node> component;
        Node member;
        do {
          member = open.back();
          open.pop_back();
          is_open[member] = false;
          component.push_back(member);
        } while (member != node);
        components.push_back(std::move(component));
      }
      const Node done = node;
      path.pop_back();
      if (!path.empty()) {
        lowest[path.back().node] = std::min(lowest[path.back().node], lowest[done]);
      }
    }
  }
  return components;
}

std::set<Node> reachable(const Graph& graph, Node from) {
  std::set<Node> seen = {from};
  std::vector<Node> left = {from};
  while (!left.empty()) {
    const Node node = left.back();
    left.pop_back();
    for (const Edge edge : graph[node]) {
      if (seen.insert(edge.to).second) left.push_back(edge.to);
    }
  }
  return seen;
}

// The cost of the cheapest way to every node that can be reached.
std::map<Node, std::uint32_t> cheapest_ways(const Graph& graph, Node from) {
  using Stop = std::pair<std::uint32_t, Node>;
  std::priority_queue<Stop, std::vector<Stop>, std::greater<>> stops;
  std::map<Node, std::uint32_t> costs;
  stops.emplace(0, from);
  while (!stops.empty()) {
    const auto [cost, node] = stops.top();
    stops.pop();
    if (!costs.emplace(node, cost).second) continue;
    for (const Edge edge : graph[node]) {
      if (!costs.contains(edge.to)) stops.emplace(cost + edge.cost, edge.to);
    }
  }
  return costs;
}

void add_components(bench::Checksum& checksum, const Components& components) {
  for (const std::vector<Node>& component : components) {
    checksum.add(component.size());
    for (const Node node : component) checksum.add(node);
  }
}

std::uint64_t work(const bench::Corpus& corpus) {
  bench::Checksum checksum;

  const Graph includes = include_graph(corpus);
  add_components(checksum, strong_components(includes));
  for (Node file = 0; file < includes.size(); ++file) {
    checksum.add(reachable(includes, file).size());
  }

  const Graph names = name_graph(corpus);
  const Components components = strong_components(names);
  add_components(checksum, components);
  constexpr std::size_t start_count = 4;
  for (std::size_t i = 0; i < start_count; ++i) {
    const auto start = static_cast<Node>(i * names.size() / start_count);
    if (start >= names.size()) break;
    for (const auto& [node, cost] : cheapest_ways(names, start)) {
      checksum.add(node);
      checksum.add(cost);
    }
  }
  std::printf("%zu files, %zu names in %zu components\n", includes.size(), names.size(),
              components.size());
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"graph", 12 << 20, work}, argc, argv); }
