// StdAllocator: in every container of the standard library, with and without state.

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <forward_list>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <queue>
#include <set>
#include <stack>
#include <string>
#include <sysalloc/counting.hpp>
#include <sysalloc/limited.hpp>
#include <sysalloc/std_allocator.hpp>
#include <sysalloc/system.hpp>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "support/bytes.hpp"
#include "support/environment.hpp"
#include "support/mock.hpp"

namespace {

using sysalloc::Counting;
using sysalloc::Global;
using sysalloc::StdAllocator;
using sysalloc::System;

using Counted = Counting<System>;
template <class T>
using Of = StdAllocator<T, Counted>;

// Stateless over an empty allocator; a pointer otherwise.
static_assert(std::is_empty_v<StdAllocator<int>>);
static_assert(std::is_empty_v<StdAllocator<int, System>>);
static_assert(std::is_same_v<StdAllocator<int>, StdAllocator<int, Global>>);
static_assert(std::is_nothrow_default_constructible_v<StdAllocator<int, System>>);
static_assert(!std::is_default_constructible_v<Of<int>>);
static_assert(sizeof(Of<int>) == sizeof(void*));
static_assert(std::is_trivially_copyable_v<Of<int>>);
static_assert(sizeof(std::vector<int, StdAllocator<int, System>>) == sizeof(std::vector<int>));

// [allocator.requirements]
template <class A>
using Traits = std::allocator_traits<A>;
static_assert(std::is_same_v<Traits<Of<int>>::rebind_alloc<double>, Of<double>>);
static_assert(std::is_same_v<Traits<Of<int>>::value_type, int>);
static_assert(std::is_same_v<Traits<Of<int>>::pointer, int*>);
static_assert(std::is_same_v<Traits<Of<int>>::size_type, std::size_t>);
static_assert(Traits<StdAllocator<int, System>>::is_always_equal::value);
static_assert(!Traits<Of<int>>::is_always_equal::value);
static_assert(Traits<Of<int>>::propagate_on_container_copy_assignment::value);
static_assert(Traits<Of<int>>::propagate_on_container_move_assignment::value);
static_assert(Traits<Of<int>>::propagate_on_container_swap::value);
static_assert(StdAllocator<int, System>{} == StdAllocator<double, System>{});
static_assert(std::is_nothrow_constructible_v<Of<int>, const Of<double>&>);
static_assert(std::is_convertible_v<Of<double>, Of<int>>);
static_assert(!std::is_constructible_v<StdAllocator<int, System>, StdAllocator<int, Global>>);

struct alignas(256) Wide {
  int value = 0;
};

// Runs `use` with an allocator that counts: it must have allocated, and given all back.
template <class Use>
void check_counted(const std::string& what, Use use) {
  CAPTURE(what);
  const Counted counting;
  use(counting);
  CHECK(counting.stats().blocks_total > 0);
  CHECK(counting.stats().blocks_live == 0);
  CHECK(counting.stats().bytes_live == 0);
}

constexpr int count = 300;

template <class Container>
void check_sequence(const std::string& what) {
  check_counted(what, [](const Counted& counting) {
    Container one(counting);
    for (int i = 0; i < count; ++i) one.insert(one.end(), i);
    const Container copy = one;
    CHECK(copy == one);
    CHECK(copy.get_allocator() == one.get_allocator());
    one.erase(one.begin());
    Container moved = std::move(one);
    CHECK(moved.size() == count - 1);
    CHECK(*moved.begin() == 1);
  });
}

template <class Container, class Make>
void check_associative(const std::string& what, Make make) {
  check_counted(what, [&make](const Counted& counting) {
    Container one = make(counting);
    for (int i = 0; i < count; ++i) {
      if constexpr (requires { typename Container::mapped_type; }) {
        one.insert({i % 100, i});
      } else {
        one.insert(i % 100);
      }
    }
    const Container copy = one;
    CHECK(copy == one);
    CHECK(one.contains(99));
    one.erase(99);
    CHECK_FALSE(one.contains(99));
    Container moved = std::move(one);
    CHECK(moved.contains(98));
  });
}

}  // namespace

TEST_CASE("sequences") {
  check_sequence<std::vector<int, Of<int>>>("vector");
  check_sequence<std::deque<int, Of<int>>>("deque");
  check_sequence<std::list<int, Of<int>>>("list");
  check_counted("vector<bool>", [](const Counted& counting) {
    std::vector<bool, Of<bool>> bits(counting);
    for (int i = 0; i < count; ++i) bits.push_back(i % 3 == 0);
    CHECK(bits[297]);
    CHECK_FALSE(bits[298]);
  });
  check_counted("forward_list", [](const Counted& counting) {
    std::forward_list<int, Of<int>> list(counting);
    for (int i = 0; i < count; ++i) list.push_front(i);
    CHECK(list.front() == count - 1);
    const auto copy = list;
    CHECK(copy == list);
  });
  check_counted("basic_string", [](const Counted& counting) {
    std::basic_string<char, std::char_traits<char>, Of<char>> string(counting);
    for (int i = 0; i < count; ++i) string += static_cast<char>('a' + i % 26);
    CHECK(string.size() == count);
    CHECK((string + string).compare(count, 3, "abc") == 0);
  });
}

TEST_CASE("ordered containers") {
  using Pair = std::pair<const int, int>;
  using Less = std::less<>;
  const auto make = []<class C>(std::type_identity<C>) {
    return [](const Counted& counting) { return C(Less{}, counting); };
  };
  using Set = std::set<int, Less, Of<int>>;
  using MultiSet = std::multiset<int, Less, Of<int>>;
  using Map = std::map<int, int, Less, Of<Pair>>;
  using MultiMap = std::multimap<int, int, Less, Of<Pair>>;
  check_associative<Set>("set", make(std::type_identity<Set>{}));
  check_associative<MultiSet>("multiset", make(std::type_identity<MultiSet>{}));
  check_associative<Map>("map", make(std::type_identity<Map>{}));
  check_associative<MultiMap>("multimap", make(std::type_identity<MultiMap>{}));
}

TEST_CASE("hashed containers") {
  using Pair = std::pair<const int, int>;
  using Hash = std::hash<int>;
  using Equal = std::equal_to<>;
  const auto make = []<class C>(std::type_identity<C>) {
    return [](const Counted& counting) { return C(1, Hash{}, Equal{}, counting); };
  };
  using Set = std::unordered_set<int, Hash, Equal, Of<int>>;
  using MultiSet = std::unordered_multiset<int, Hash, Equal, Of<int>>;
  using Map = std::unordered_map<int, int, Hash, Equal, Of<Pair>>;
  using MultiMap = std::unordered_multimap<int, int, Hash, Equal, Of<Pair>>;
  check_associative<Set>("unordered_set", make(std::type_identity<Set>{}));
  check_associative<MultiSet>("unordered_multiset", make(std::type_identity<MultiSet>{}));
  check_associative<Map>("unordered_map", make(std::type_identity<Map>{}));
  check_associative<MultiMap>("unordered_multimap", make(std::type_identity<MultiMap>{}));
}

TEST_CASE("container adaptors") {
  check_counted("priority_queue, stack and queue", [](const Counted& counting) {
    std::priority_queue<int, std::vector<int, Of<int>>> heap{std::less<int>{},
                                                             std::vector<int, Of<int>>(counting)};
    std::stack<int, std::deque<int, Of<int>>> stack{std::deque<int, Of<int>>(counting)};
    std::queue<int, std::list<int, Of<int>>> queue{std::list<int, Of<int>>(counting)};
    for (int i = 0; i < count; ++i) {
      heap.push(i * 7 % count);
      stack.push(i);
      queue.push(i);
    }
    CHECK(heap.top() == count - 1);
    CHECK(stack.top() == count - 1);
    CHECK(queue.front() == 0);
  });
}

TEST_CASE("shared_ptr, with the object and the count in one block") {
  check_counted("allocate_shared", [](const Counted& counting) {
    auto shared = std::allocate_shared<Wide>(Of<Wide>(counting), Wide{7});
    CHECK(tests::is_aligned(shared.get(), alignof(Wide)));
    CHECK(counting.stats().blocks_total == 1);
    const std::weak_ptr<Wide> weak = shared;
    const auto other = shared;
    shared.reset();
    CHECK(weak.lock()->value == 7);
    const std::shared_ptr<int> owned(new int(3), std::default_delete<int>(), Of<int>(counting));
    CHECK(counting.stats().blocks_total == 2);
  });
}

TEST_CASE("promise, whose shared state is allocated") {
  check_counted("promise", [](const Counted& counting) {
    std::promise<int> promise(std::allocator_arg, Of<int>(counting));
    auto future = promise.get_future();
    promise.set_value(42);
    CHECK(future.get() == 42);
  });
}

TEST_CASE("containers of containers, rebound to types of every kind") {
  check_counted("nested", [](const Counted& counting) {
    using Inner = std::vector<Wide, Of<Wide>>;
    using Pair = std::pair<const int, Inner>;
    std::map<int, Inner, std::less<>, Of<Pair>> map(std::less<>{}, counting);
    for (int i = 0; i < 20; ++i) {
      Inner& inner = map.try_emplace(i, Of<Wide>(counting)).first->second;
      for (int j = 0; j < 10; ++j) inner.push_back(Wide{j});
      CHECK(tests::is_aligned(inner.data(), alignof(Wide)));
      CHECK(inner[9].value == 9);
    }
  });
}

TEST_CASE("the allocator travels with the block on copy, move and swap") {
  const Counted first;
  const Counted second;
  {
    using Vector = std::vector<int, Of<int>>;
    Vector a(100, 1, first);
    Vector b(200, 2, second);
    CHECK(a.get_allocator() != b.get_allocator());
    swap(a, b);
    CHECK(a.get_allocator() == Of<int>(second));
    CHECK(b.get_allocator() == Of<int>(first));
    const int* const data = b.data();
    a = std::move(b);
    CHECK(a.data() == data);  // nothing was copied
    CHECK(a.get_allocator() == Of<int>(first));
    CHECK(second.stats().blocks_live == 0);
    const Vector c(50, 3, second);
    a = c;
    CHECK(a.get_allocator() == Of<int>(second));
    CHECK(first.stats().blocks_live == 0);
  }
  CHECK(second.stats().blocks_live == 0);
}

TEST_CASE("a ByRef is kept by value") {
  using Ref = sysalloc::ByRef<tests::Minimal>;
  const tests::Minimal minimal;
  const tests::Minimal other;
  {
    Ref ref = minimal.by_ref();
    std::vector<int, StdAllocator<int, Ref>> vector{StdAllocator<int, Ref>(ref)};
    // Were it kept by address, the vector would follow.
    ref = other.by_ref();
    vector.reserve(10);
  }
  CHECK(minimal.log == tests::Log{"alloc 40/4", "dealloc 40/4"});
  CHECK(other.log.empty());
}

TEST_CASE("small state is referred to, and not copied") {
  const tests::Tally first;
  const tests::Tally second;
  const StdAllocator<int, tests::Tally> a(first);
  CHECK(a == StdAllocator<double, tests::Tally>(first));
  CHECK(a != StdAllocator<int, tests::Tally>(second));
  std::vector<int, StdAllocator<int, tests::Tally>> one(10, a);
  std::vector<int, StdAllocator<int, tests::Tally>> other(20, second);
  CHECK(first.live >= 10 * sizeof(int));
  CHECK(second.live >= 20 * sizeof(int));
  one = std::move(other);
  CHECK(first.live < 10 * sizeof(int));
  CHECK(one.get_allocator() != a);
}

// A reference of one's own, that cannot be assigned: an allocator like any other.
class Borrowed : public sysalloc::AllocatorInterface<Borrowed> {
 public:
  explicit Borrowed(const Counted& counted) noexcept : counted_(counted) {}
  void* alloc(sysalloc::Layout layout) const noexcept { return counted_.alloc(layout); }
  void dealloc(void* ptr, sysalloc::Layout layout) const noexcept { counted_.dealloc(ptr, layout); }
  friend bool operator==(Borrowed a, Borrowed b) noexcept { return &a.counted_ == &b.counted_; }

 private:
  const Counted& counted_;
};
static_assert(!std::is_copy_assignable_v<Borrowed>);

TEST_CASE("an allocator that cannot be assigned travels as well, and by way of a ByRef") {
  const Counted first;
  const Counted second;
  const Borrowed one(first);
  const Borrowed other(second);
  const auto check = [&]<class A>(std::type_identity<A>, const A& from_first,
                                  const A& from_second) {
    std::vector<int, StdAllocator<int, A>> a({1, 2, 3}, from_first);
    std::vector<int, StdAllocator<int, A>> b({4, 5}, from_second);
    const auto blocks = second.stats().blocks_live;
    a = b;
    CHECK(a == b);
    CHECK(a.get_allocator() == b.get_allocator());
    CHECK(first.stats().bytes_live < 3 * sizeof(int));
    CHECK(second.stats().blocks_live == blocks + 1);
    b = std::move(a);
    std::swap(a, b);
    CHECK(a.size() == 2);
    CHECK(a.get_allocator() == b.get_allocator());
  };
  check(std::type_identity<Borrowed>{}, one, other);
  using Ref = sysalloc::ByRef<Borrowed>;
  static_assert(std::is_copy_assignable_v<Ref>);
  check(std::type_identity<Ref>{}, one.by_ref(), other.by_ref());
  CHECK(second.stats().blocks_live == 0);
}

TEST_CASE("the layout is that of the array, and of nothing when there are none") {
  const tests::Minimal minimal;
  StdAllocator<Wide, tests::Minimal> a(minimal);
  Wide* const three = a.allocate(3);
  a.deallocate(three, 3);
  Wide* const none = a.allocate(0);
  CHECK(none != nullptr);
  CHECK(tests::is_aligned(none, alignof(Wide)));
  a.deallocate(none, 0);
  CHECK(minimal.log == tests::Log{"alloc 768/256", "dealloc 768/256"});
}

TEST_CASE("allocate_at_least tells a count that deallocate takes") {
#if defined(__cpp_lib_allocate_at_least)
  const Counted counting;
  Of<int> a(counting);
  const auto result = std::allocator_traits<Of<int>>::allocate_at_least(a, 5);
  static_assert(requires(Of<int>& b) { b.allocate_at_least(1); });
  CHECK(result.count >= 5);
  for (std::size_t i = 0; i < result.count; ++i) result.ptr[i] = 1;
  a.deallocate(result.ptr, result.count);
  CHECK(counting.stats().bytes_live == 0);
#else
  tests::not_checked("allocate_at_least", "this standard library has it not");
#endif
}

#if defined(__cpp_exceptions)
TEST_CASE("a length that overflows is bad_array_new_length, and lack of memory bad_alloc") {
  StdAllocator<Wide, System> system;
  const std::size_t most = PTRDIFF_MAX / sizeof(Wide);
  for (const std::size_t length : {most + 1, std::size_t{SIZE_MAX}, SIZE_MAX / sizeof(Wide) + 1,
                                   SIZE_MAX / sizeof(Wide) + 2}) {
    CHECK_THROWS_AS(static_cast<void>(system.allocate(tests::opaque(length))),
                    std::bad_array_new_length);
  }
  // The largest length is valid; there is only no memory for it.
  bool length_error = false;
  bool out_of_memory = false;
  try {
    static_cast<void>(system.allocate(tests::opaque(most)));
  } catch (const std::bad_array_new_length&) {
    length_error = true;
  } catch (const std::bad_alloc&) {
    out_of_memory = true;
  }
  CHECK_FALSE(length_error);
  CHECK(out_of_memory);

  const sysalloc::Limited<System> limited(1000);
  std::vector<char, StdAllocator<char, sysalloc::Limited<System>>> vector(limited);
  vector.resize(1000, 'x');
  CHECK_THROWS_AS(vector.push_back('y'), std::bad_alloc);
  CHECK(vector.size() == 1000);
  CHECK(vector[999] == 'x');
}
#endif
