// Regular expressions over the headers, as a linter runs them: general rules
// on every line, and for each file rules made of the names it defines itself.
// What they find is gathered as a report of findings with their groups.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/text.hpp"

namespace {

struct Rule {
  std::string name;
  std::regex regex;
};

using Rules = std::vector<Rule>;

Rules general_rules() {
  const std::array<std::pair<const char*, const char*>, 3> texts = {{
      {"include", R"(#\s*include\s*([<"])([^>"]+)[>"])"},
      {"number", R"(\b(0[xX][0-9a-fA-F]+|[0-9]+)([uUlL]*)\b)"},
      {"scoped", R"((\w+)::(\w+))"},
  }};
  Rules rules;
  for (const auto& [name, text] : texts) rules.push_back({name, std::regex(text)});
  return rules;
}

// One rule for each of the first names a file defines: where is it used, and
// with which arguments?
Rules own_rules(const std::vector<std::string>& lines) {
  constexpr std::size_t most_rules = 12;
  static const std::regex definition(R"(#\s*define\s+(\w+))");
  Rules rules;
  for (const std::string& line : lines) {
    std::smatch match;
    if (rules.size() == most_rules) break;
    if (line.front() != '#' || !std::regex_search(line, match, definition)) continue;
    const std::string name = match[1];
    rules.push_back({name, std::regex(name + R"(\b\s*(\([\w\s,]*\))?)")});
  }
  return rules;
}

struct Finding {
  std::size_t line;
  std::vector<std::string> groups;
};

// By the name of the rule.
using Report = std::map<std::string, std::vector<Finding>>;

void scan(const std::vector<std::string>& lines, const Rules& rules, Report& report) {
  const std::sregex_iterator end;
  for (std::size_t number = 0; number < lines.size(); ++number) {
    const std::string& line = lines[number];
    for (const Rule& rule : rules) {
      for (std::sregex_iterator it(line.begin(), line.end(), rule.regex); it != end; ++it) {
        Finding finding{number, {}};
        for (const auto& group : *it) finding.groups.push_back(group.str());
        report[rule.name].push_back(std::move(finding));
      }
    }
  }
}

// std::regex as libstdc++ has it recurses with the text, so the few very long
// lines of generated headers are left out.
constexpr std::size_t longest_line = 400;

std::vector<std::string> lines_of(const bench::SourceFile& file) {
  std::vector<std::string> lines;
  bench::for_each_line(file.text, [&](std::string_view line) {
    line = bench::trim(line);
    if (!line.empty() && line.size() <= longest_line) lines.emplace_back(line);
  });
  return lines;
}

std::uint64_t work(const bench::Corpus& corpus) {
  const Rules rules = general_rules();
  bench::Checksum checksum;
  std::size_t line_count = 0;
  std::size_t finding_count = 0;
  for (const bench::SourceFile& file : corpus) {
    const std::vector<std::string> lines = lines_of(file);
    Report report;
    scan(lines, rules, report);
    scan(lines, own_rules(lines), report);
    line_count += lines.size();
    for (const auto& [name, findings] : report) {
      checksum.add(name);
      finding_count += findings.size();
      for (const Finding& finding : findings) {
        checksum.add(finding.line);
        for (const std::string& group : finding.groups) checksum.add(group);
      }
    }
  }
  std::printf("%zu lines, %zu findings\n", line_count, finding_count);
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"regex_scan", 640 << 10, work}, argc, argv); }
