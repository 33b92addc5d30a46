// 20,000 blocks taken on one thread and given back on another: an iteration
// ends when the last one is free. Allocators with a cache for each thread
// must bring the blocks home. The blocks travel in parcels over a queue that
// allocates nothing itself. The column to read is the wall clock time; the CPU
// time is the sender's alone.
#include <benchmark/benchmark.h>

#include <array>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>

#include "blocks.hpp"
#include "sizes.hpp"

namespace {

constexpr std::size_t total = 20'000;
// Large enough that waking the other thread is a small part of the cost, and
// still ten parcels, so that both threads work at the same time.
constexpr std::size_t parcel_size = 2'000;
constexpr std::size_t parcel_count = total / parcel_size;
static_assert(parcel_count * parcel_size == total);

struct Parcel {
  std::array<void*, parcel_size> blocks;
  std::array<std::size_t, parcel_size> sizes;
};

// A place for every parcel of one iteration, so the sender never waits for
// room, only, at the end, for the last parcel to be emptied.
class Courier {
 public:
  Courier() : receiver_([this] { receive(); }) {}

  ~Courier() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    receiver_.join();
  }

  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  // The place of the next parcel to send; the sender alone writes to it.
  Parcel& next() { return parcels_[sent_ % parcel_count]; }

  void send() {
    {
      const std::lock_guard lock(mutex_);
      ++sent_;
    }
    changed_.notify_all();
  }

  void wait_until_all_are_freed() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return emptied_ == sent_; });
  }

 private:
  void receive() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return emptied_ != sent_ || closed_; });
      if (emptied_ == sent_) return;
      const Parcel& parcel = parcels_[emptied_ % parcel_count];
      lock.unlock();
      for (std::size_t i = 0; i < parcel_size; ++i) {
        bench::touch(parcel.blocks[i], parcel.sizes[i]);
        bench::give<bench::Delete::sized>(parcel.blocks[i], parcel.sizes[i]);
      }
      lock.lock();
      // Only the last one can end the sender's wait.
      if (++emptied_ == sent_) changed_.notify_all();
    }
  }

  std::array<Parcel, parcel_count> parcels_{};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t sent_ = 0;
  std::size_t emptied_ = 0;
  bool closed_ = false;
  // Last: the thread may start before the constructor ends, and everything
  // it uses must then exist.
  std::thread receiver_;
};

void handoff_20k(benchmark::State& state) {
  Courier courier;
  for (auto _ : state) {
    std::size_t turn = 0;
    for (std::size_t n = 0; n < parcel_count; ++n) {
      Parcel& parcel = courier.next();
      for (std::size_t i = 0; i < parcel_size; ++i) {
        parcel.sizes[i] = bench::mixed_sizes[turn++];
        parcel.blocks[i] = bench::take(parcel.sizes[i]);
      }
      courier.send();
    }
    courier.wait_until_all_are_freed();
  }
}

BENCHMARK(handoff_20k);

}  // namespace
