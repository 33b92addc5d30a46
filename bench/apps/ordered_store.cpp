// An ordered store in memory, as many services keep one: keys and values are
// strings, spread over shards of mutex and std::map, under a mixed load of get,
// put, delete and range from four threads.
//
// Each key belongs to a tenant, and in each round each tenant is served by one
// thread, so what a tenant reads and leaves behind does not depend on how the
// threads are interleaved. From round to round the tenants move on to the next
// thread: strings are mostly freed by another thread than made them. All
// tenants share all shards.
#include <array>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../random.hpp"
#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/text.hpp"

namespace {

class Store {
 public:
  using Entry = std::pair<std::string, std::string>;

  void put(const std::string& key, std::string value) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    shard.entries.insert_or_assign(key, std::move(value));
  }

  std::optional<std::string> get(const std::string& key) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    const auto found = shard.entries.find(key);
    if (found == shard.entries.end()) return std::nullopt;
    return found->second;
  }

  bool erase(const std::string& key) {
    Shard& shard = shard_of(key);
    const std::lock_guard lock(shard.mutex);
    return shard.entries.erase(key) != 0;
  }

  // Copies of the first `limit` entries at or after `from` that start with
  // `prefix`, gathered from all shards.
  std::vector<Entry> range(const std::string& from, std::string_view prefix, std::size_t limit) {
    std::map<std::string, std::string> found;
    for (Shard& shard : shards_) {
      const std::lock_guard lock(shard.mutex);
      std::size_t taken = 0;
      for (auto it = shard.entries.lower_bound(from);
           it != shard.entries.end() && it->first.starts_with(prefix) && taken < limit;
           ++it, ++taken) {
        found.insert(*it);
      }
    }
    std::vector<Entry> entries;
    while (!found.empty() && entries.size() < limit) {
      auto node = found.extract(found.begin());
      entries.emplace_back(std::move(node.key()), std::move(node.mapped()));
    }
    return entries;
  }

 private:
  struct Shard {
    std::mutex mutex;
    std::map<std::string, std::string> entries;
  };

  Shard& shard_of(std::string_view key) { return shards_[bench::hash_of(key) % shards_.size()]; }

  std::array<Shard, 16> shards_;
};

constexpr std::size_t thread_count = 4;
constexpr std::size_t tenant_count = thread_count;
constexpr std::size_t round_count = 2 * thread_count;

std::vector<std::string_view> lines_of(const bench::Corpus& corpus) {
  std::vector<std::string_view> lines;
  for (const bench::SourceFile& file : corpus) {
    bench::for_each_line(file.text, [&](std::string_view line) {
      line = bench::trim(line);
      if (!line.empty()) lines.push_back(line);
    });
  }
  return lines;
}

// One tenant's requests of one round.
class Session {
 public:
  Session(Store& store, const std::vector<std::string_view>& lines, std::size_t tenant,
          std::size_t round)
      : store_(store),
        lines_(lines),
        prefix_("tenant/" + std::to_string(tenant) + "/"),
        random_(round * tenant_count + tenant) {}

  std::uint64_t serve(std::size_t requests) {
    for (std::size_t i = 0; i < requests; ++i) {
      const std::size_t kind = random_.below(100);
      if (kind < 45) {
        const std::optional<std::string> value = store_.get(some_key());
        checksum_.add(value ? std::string_view(*value).substr(0, 16) : "none");
      } else if (kind < 85) {
        const std::string key = some_key();
        store_.put(key, some_value());
      } else if (kind < 97) {
        checksum_.add(store_.erase(some_key()) ? "erased" : "nothing to erase");
      } else {
        for (const auto& [key, value] : store_.range(some_key(), prefix_, 20)) {
          checksum_.add(key);
          checksum_.add(value.size());
        }
      }
    }
    return checksum_.value();
  }

 private:
  // Keys are lines of the headers: short and long, some with much in common.
  std::string some_key() { return prefix_ + std::string(some_line().substr(0, 60)); }

  std::string some_value() {
    std::string value;
    for (std::size_t lines = 1 + random_.below(6); lines > 0; --lines) {
      value += some_line();
      value += '\n';
    }
    return value;
  }

  std::string_view some_line() { return lines_[random_.below(lines_.size())]; }

  Store& store_;
  const std::vector<std::string_view>& lines_;
  std::string prefix_;
  bench::Random random_;
  bench::Checksum checksum_;
};

std::uint64_t work(const bench::Corpus& corpus) {
  const std::vector<std::string_view> lines = lines_of(corpus);
  const std::size_t requests = lines.size() / round_count;
  Store store;
  std::barrier round_end(static_cast<std::ptrdiff_t>(thread_count));
  std::array<std::uint64_t, thread_count> sums{};
  {
    std::vector<std::jthread> threads;
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      threads.emplace_back([&, thread] {
        // Added up: it matters what the sessions saw, not on which thread.
        std::uint64_t sum = 0;
        for (std::size_t round = 0; round < round_count; ++round) {
          sum += Session(store, lines, (thread + round) % tenant_count, round).serve(requests);
          round_end.arrive_and_wait();
        }
        sums[thread] = sum;
      });
    }
  }

  bench::Checksum checksum;
  std::uint64_t total = 0;
  for (const std::uint64_t sum : sums) total += sum;
  checksum.add(total);
  const std::vector<Store::Entry> left = store.range("", "", lines.size() * round_count);
  for (const auto& [key, value] : left) {
    checksum.add(key);
    checksum.add(value);
  }
  std::printf("%zu requests, %zu entries left\n", requests * round_count * thread_count,
              left.size());
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"ordered_store", 3 << 18, work}, argc, argv); }
