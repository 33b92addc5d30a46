// Regular expressions over the headers, line by line, as a linter or a log
// scanner runs them: matches are gathered by kind, and names rewritten.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <regex>
#include <string>
#include <string_view>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/text.hpp"

namespace {

struct Pattern {
  const char* kind;
  std::regex regex;
};

const std::array<Pattern, 4>& patterns() {
  static const std::array<Pattern, 4> all = {{
      {"include", std::regex(R"(#\s*include\s*([<"])([^>"]+)[>"])")},
      {"call", std::regex(R"(([A-Za-z_]\w*)\s*\()")},
      {"number", std::regex(R"(\b(0[xX][0-9a-fA-F]+|[0-9]+)([uUlL]*)\b)")},
      {"scoped", std::regex(R"(([A-Za-z_]\w*)::([A-Za-z_]\w*))")},
  }};
  return all;
}

using Findings = std::map<std::string, std::map<std::string, unsigned>>;

void scan(const std::string& line, Findings& findings) {
  for (const Pattern& pattern : patterns()) {
    const std::sregex_iterator end;
    for (std::sregex_iterator it(line.begin(), line.end(), pattern.regex); it != end; ++it) {
      const std::smatch& match = *it;
      ++findings[pattern.kind]
                [match.size() > 2 ? match[1].str() + " " + match[2].str() : match[1].str()];
    }
  }
}

// std::regex as libstdc++ has it recurses with the text, so the few very long
// lines of generated headers are left out.
constexpr std::size_t longest_line = 400;

std::uint64_t work(const bench::Corpus& corpus) {
  const std::regex member(R"(\b_M_(\w+))");
  bench::Checksum checksum;
  Findings findings;
  std::size_t lines = 0;
  for (const bench::SourceFile& file : corpus) {
    bench::for_each_line(file.text, [&](std::string_view view) {
      const std::string line(bench::trim(view));
      if (line.empty() || line.size() > longest_line) return;
      ++lines;
      scan(line, findings);
      checksum.add(std::regex_replace(line, member, "m_$1"));
    });
  }
  std::size_t kinds = 0;
  for (const auto& [kind, texts] : findings) {
    checksum.add(kind);
    for (const auto& [text, uses] : texts) {
      checksum.add(text);
      checksum.add(uses);
    }
    kinds += texts.size();
  }
  std::printf("%zu lines, %zu different matches\n", lines, kinds);
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"regex_scan", 640 << 10, work}, argc, argv); }
