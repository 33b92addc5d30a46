// Allocates in the program and frees in a shared library or a plugin, and the other way round.
//
//   exchange PLUGIN
//
// Linked with counting.cpp it also sees that the program's global allocator serves both.

#include "exchange.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <thread>

#include "../../unit/support/address_space.hpp"
#include "counts.hpp"

extern "C" ExchangeLibrary linked_library;

namespace {

// Calls that have to be served by this program's global allocator, at least `blocks` of them.
template <class Call>
void counts(std::size_t blocks, Call call) {
  const std::size_t before = test::blocks_total();
  call();
  if (test::counted()) CHECK(test::blocks_total() >= before + blocks);
}

void exchange(const test::Library& library) {
  const std::size_t live = test::blocks_live();
  for (int turn = 0; turn < 3; ++turn) {
    counts(8, [&] { test::free_all(library.allocate_all(), turn); });
    library.free_all(test::allocate_all(), turn);
  }

  std::vector<std::string> strings;
  counts(100, [&] { strings = library.make_strings(100); });
  CHECK(strings.at(99) == test::long_string(99));
  strings.resize(1000, test::long_string(5));
  strings.shrink_to_fit();
  counts(100, [&] { library.append(strings, 100); });
  CHECK(strings.size() == 1100);
  library.take_strings(std::move(strings));
  library.take_strings({});

  std::unique_ptr<test::Thing> thing;
  counts(2, [&] { thing = library.make_thing(); });
  CHECK(thing->name() == test::long_string(7));
  thing.reset();

  bool caught = false;
  try {
    library.throw_trouble();
  } catch (const test::Trouble& trouble) {
    caught = trouble.what == test::long_string(3) && trouble.details.size() == 3;
  }
  CHECK(caught);
  caught = false;
  try {
    const tests::CrowdedAddressSpace crowded;
    library.run_out();
  } catch (const std::bad_alloc&) {
    caught = true;
  }
  CHECK(caught);
  CHECK(library.catch_from([] { throw test::Trouble{test::long_string(4), {}}; }) ==
        test::long_string(4));

  // What is left is the empty vector the library keeps: nothing.
  if (test::counted()) CHECK(test::blocks_live() <= live);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: exchange PLUGIN\n");
    return 2;
  }
  exchange(linked_library());

  // Twice: what dlclose destroys, the second dlopen makes anew.
  for (int i = 0; i < 2; ++i) {
    void* const plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    auto* const entry = reinterpret_cast<ExchangeLibrary*>(dlsym(plugin, "plugin_library"));
    CHECK(entry != nullptr);
    const test::Library library = entry();
    exchange(library);

    std::thread([&] { library.use_thread_local(); }).join();

    // Allocated by the plugin, freed after it is gone.
    std::vector<std::string> strings;
    counts(10, [&] { strings = library.make_strings(10); });
    const test::Blocks blocks = library.allocate_all();
    CHECK(dlclose(plugin) == 0);
    strings.resize(100, test::long_string(6));
    CHECK(strings.front() == test::long_string(0));
    test::free_all(blocks, i);
  }
  return 0;
}
