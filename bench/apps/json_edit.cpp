// JSON documents made of the headers, one for each file, printed, parsed back,
// edited, merged into one catalogue and printed again: what a service does
// with its configuration or its requests.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/text.hpp"

namespace {

using nlohmann::json;

json describe(const bench::SourceFile& file) {
  json includes = json::array();
  json line_lengths = json::array();
  json words = json::object();
  json comments = json::array();
  bench::for_each_line(file.text, [&](std::string_view line) {
    line_lengths.push_back(line.size());
    if (const std::string_view name = bench::included_file(line); !name.empty()) {
      includes.push_back({{"name", name}, {"line", line_lengths.size()}});
    }
    if (const std::size_t at = line.find("//"); at != std::string_view::npos) {
      comments.push_back(bench::trim(line.substr(at + 2)));
    }
    bench::for_each_word(line, [&](std::string_view word) {
      json& uses = words[std::string(word)];
      uses = uses.is_null() ? 1 : uses.get<int>() + 1;
    });
  });
  return {{"path", file.path},
          {"bytes", file.text.size()},
          {"includes", std::move(includes)},
          {"line_lengths", std::move(line_lengths)},
          {"words", std::move(words)},
          {"comments", std::move(comments)}};
}

// The edits of somebody who reviews the documents: what is rare goes, what is
// long is cut, and a summary comes in.
void edit(json& document) {
  json& words = document["words"];
  for (auto it = words.begin(); it != words.end();) {
    it = it->get<int>() == 1 ? words.erase(it) : std::next(it);
  }
  for (json& comment : document["comments"]) {
    auto& text = comment.get_ref<std::string&>();
    if (text.size() > 40) text = text.substr(0, 37) + "...";
  }
  const auto lengths = document["line_lengths"].get<std::vector<std::size_t>>();
  document["summary"] = {{"lines", lengths.size()},
                         {"longest", lengths.empty() ? 0 : *std::ranges::max_element(lengths)},
                         {"kinds", words.size()}};
  document.erase("line_lengths");
}

// Word counts are added up, includes gathered by name.
void merge_into(json& catalogue, const json& document) {
  json& totals = catalogue["words"];
  for (const auto& [word, uses] : document["words"].items()) {
    json& total = totals[word];
    total = uses.get<int>() + (total.is_null() ? 0 : total.get<int>());
  }
  for (const json& include : document["includes"]) {
    catalogue["included_by"][include["name"].get<std::string>()].push_back(document["path"]);
  }
  json file = document;
  file.erase("words");
  file.merge_patch({{"path", nullptr}, {"reviewed", true}});
  catalogue["files"][document["path"].get<std::string>()] = std::move(file);
}

std::uint64_t work(const bench::Corpus& corpus) {
  bench::Checksum checksum;
  std::vector<std::string> texts;
  for (const bench::SourceFile& file : corpus) texts.push_back(describe(file).dump());

  json catalogue;
  for (const std::string& text : texts) {
    json document = json::parse(text);
    edit(document);
    merge_into(catalogue, document);
    checksum.add(document["summary"].dump());
  }

  const std::string printed = catalogue.dump(2);
  std::printf("%zu documents, a catalogue of %zu bytes\n", texts.size(), printed.size());
  if (json::parse(printed) != catalogue)
    throw std::runtime_error("the catalogue reads differently");
  checksum.add(printed);
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"json_edit", 7 << 20, work}, argc, argv); }
