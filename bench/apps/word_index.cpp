// An index of every word in the headers: word to places, filled through a hash
// map, then put in order, and asked: for the files that have two words both,
// for all words with a prefix, and for the lines of a word as a text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
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

struct Place {
  std::uint32_t file;
  std::uint32_t line;
};

using Places = std::vector<Place>;
using Index = std::map<std::string, Places, std::less<>>;

Index build_index(const bench::Corpus& corpus) {
  bench::StringMap<Places> words;
  for (std::uint32_t file = 0; file < corpus.size(); ++file) {
    std::uint32_t line = 0;
    bench::for_each_line(corpus[file].text, [&](std::string_view text) {
      ++line;
      bench::for_each_word(text, [&](std::string_view word) {
        bench::value_of(words, word).push_back({file, line});
      });
    });
  }
  Index index;
  while (!words.empty()) {
    auto node = words.extract(words.begin());
    index.emplace(std::move(node.key()), std::move(node.mapped()));
  }
  return index;
}

std::set<std::uint32_t> files_with(const Index& index, std::string_view word) {
  std::set<std::uint32_t> files;
  const auto found = index.find(word);
  if (found == index.end()) return files;
  for (const Place place : found->second) files.insert(files.end(), place.file);
  return files;
}

std::vector<std::string> files_with_both(const bench::Corpus& corpus, const Index& index,
                                         std::string_view one, std::string_view other) {
  const std::set<std::uint32_t> first = files_with(index, one);
  const std::set<std::uint32_t> second = files_with(index, other);
  std::vector<std::uint32_t> both;
  std::set_intersection(first.begin(), first.end(), second.begin(), second.end(),
                        std::back_inserter(both));
  std::vector<std::string> paths;
  for (const std::uint32_t file : both) paths.push_back(corpus[file].path);
  return paths;
}

std::vector<std::string> words_with_prefix(const Index& index, std::string_view prefix) {
  std::vector<std::string> words;
  for (auto it = index.lower_bound(prefix); it != index.end() && it->first.starts_with(prefix);
       ++it) {
    words.push_back(it->first);
  }
  return words;
}

// "path:line,line path:line ..." as a concordance prints it.
std::string concordance(const bench::Corpus& corpus, const Places& places) {
  std::map<std::string, std::vector<std::uint32_t>> lines_of;
  for (const Place place : places) lines_of[corpus[place.file].path].push_back(place.line);
  std::string text;
  for (const auto& [path, lines] : lines_of) {
    text += path + ":";
    for (const std::uint32_t line : lines) text += std::to_string(line) + ",";
    text.back() = ' ';
  }
  return text;
}

std::uint64_t work(const bench::Corpus& corpus) {
  const Index index = build_index(corpus);
  bench::Checksum checksum;
  std::size_t places = 0;
  for (const auto& [word, where] : index) {
    checksum.add(word);
    checksum.add(where.size());
    places += where.size();
  }
  std::printf("%zu words at %zu places in %zu files\n", index.size(), places, corpus.size());

  // Questions by the text itself: neighbours in order of the alphabet, at a
  // stride that asks common and rare words alike.
  constexpr std::size_t stride = 7;
  std::string_view previous = "std";
  std::size_t turn = 0;
  for (const auto& [word, where] : index) {
    if (++turn % stride != 0) continue;
    for (const std::string& path : files_with_both(corpus, index, previous, word)) {
      checksum.add(path);
    }
    for (const std::string& match : words_with_prefix(index, word.substr(0, 5))) {
      checksum.add(match.size());
    }
    checksum.add(concordance(corpus, where).size());
    previous = word;
  }
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"word_index", 12 << 20, work}, argc, argv); }
