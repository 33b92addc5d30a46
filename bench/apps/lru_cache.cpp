// A cache of rendered pages with a limit in bytes, the least recently used
// going first. The requests are the words of the headers in the order of the
// text, which have the few favourites and the long tail of real requests; the
// pages differ much in size. Requests under way share their page with the
// cache, so that some pages outlive their eviction.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <iterator>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/text.hpp"

namespace {

struct Page {
  std::string title;
  std::vector<std::string> lines;

  std::size_t bytes() const {
    std::size_t sum = title.size();
    for (const std::string& line : lines) sum += line.size();
    return sum;
  }
};

using SharedPage = std::shared_ptr<const Page>;

class Cache {
 public:
  explicit Cache(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  SharedPage find(std::string_view key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->page;
  }

  void insert(std::string_view key, SharedPage page) {
    bytes_ += page->bytes();
    entries_.push_front({std::string(key), std::move(page)});
    places_.emplace(entries_.front().key, entries_.begin());
    while (bytes_ > max_bytes_) erase(std::prev(entries_.end()));
  }

  // The page is out of date.
  void invalidate(std::string_view key) {
    const auto found = places_.find(key);
    if (found != places_.end()) erase(found->second);
  }

  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string key;
    SharedPage page;
  };
  using Place = std::list<Entry>::iterator;

  void erase(Place place) {
    bytes_ -= place->page->bytes();
    places_.erase(place->key);
    entries_.erase(place);
  }

  const std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  // From the most to the least recently used; the keys of places_ are views
  // of the keys here, which a list never moves.
  std::list<Entry> entries_;
  std::unordered_map<std::string_view, Place> places_;
};

// A page about a word, as long as the word's hash says: mostly some hundred
// bytes, now and then many thousand.
SharedPage render(std::string_view word, std::string_view source) {
  auto page = std::make_shared<Page>();
  page->title = "About " + std::string(word);
  const std::uint64_t hash = bench::hash_of(word);
  const std::size_t line_count = hash % 64 == 0 ? 150 : 1 + hash % 12;
  std::string_view rest = source.substr(static_cast<std::size_t>(word.data() - source.data()));
  for (std::size_t i = 0; i < line_count && !rest.empty(); ++i) {
    const std::size_t end = rest.find('\n');
    page->lines.push_back(std::to_string(i) + ": " + std::string(rest.substr(0, end)));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  return page;
}

std::uint64_t work(const bench::Corpus& corpus) {
  constexpr std::size_t cache_bytes = 2 << 20;
  constexpr std::size_t under_way = 64;
  constexpr std::size_t invalidation_interval = 50;

  Cache cache(cache_bytes);
  std::deque<SharedPage> requests;
  bench::Checksum checksum;
  std::size_t count = 0;
  std::size_t hits = 0;
  std::string_view previous;
  for (const bench::SourceFile& file : corpus) {
    bench::for_each_word(file.text, [&](std::string_view word) {
      SharedPage page = cache.find(word);
      if (page) {
        ++hits;
      } else {
        page = render(word, file.text);
        cache.insert(word, page);
      }
      if (++count % invalidation_interval == 0) cache.invalidate(previous);
      previous = word;
      requests.push_back(std::move(page));
      if (requests.size() > under_way) {
        const SharedPage done = std::move(requests.front());
        requests.pop_front();
        checksum.add(done->title.size() + done->lines.size() + done->lines.back().size());
      }
    });
  }
  std::printf("%zu requests, %zu hits, %zu pages cached\n", count, hits, cache.size());
  checksum.add(hits);
  checksum.add(cache.size());
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"lru_cache", 12 << 20, work}, argc, argv); }
