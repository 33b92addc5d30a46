// The frame of every application: it reads the command line and the input,
// lets the application work and prints the checksum as the last line.
//
//   APP [--scale N] [--root DIR]...
//
// Scale 1 is meant to be a fraction of a second, N is N times its input, 0 is
// the smallest that still does everything. Each DIR replaces the usual
// directories as a source of input. Exit 1 is a failure, 2 a wrong command
// line; both say why in one line.
#pragma once

#include <charconv>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "corpus.hpp"

namespace bench {

// What an application is: its name, the bytes of input at scale 1, and its
// work, which returns the checksum of all it found.
struct App {
  const char* name;
  std::size_t input_bytes;
  std::uint64_t (*work)(const Corpus& corpus);
};

namespace detail {

struct Options {
  std::size_t scale = 1;
  std::vector<std::string> roots;
};

[[noreturn]] inline void wrong_usage(const App& app, const std::string& complaint) {
  std::fprintf(stderr, "%s: %s; usage: %s [--scale N] [--root DIR]...\n", app.name,
               complaint.c_str(), app.name);
  std::exit(2);
}

inline std::size_t parse_scale(const App& app, std::string_view text) {
  constexpr std::size_t largest = 1000;
  std::size_t scale = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), scale);
  if (error != std::errc() || end != text.data() + text.size() || scale > largest) {
    wrong_usage(app, "--scale takes a number from 0 to 1000, not '" + std::string(text) + "'");
  }
  return scale;
}

inline Options parse_options(const App& app, int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option != "--scale" && option != "--root") {
      wrong_usage(app, "unknown option '" + std::string(option) + "'");
    }
    if (i + 1 == argc) wrong_usage(app, std::string(option) + " needs a value");
    const char* value = argv[++i];
    if (option == "--scale") {
      options.scale = parse_scale(app, value);
    } else {
      options.roots.emplace_back(value);
    }
  }
  return options;
}

}  // namespace detail

inline int run(const App& app, int argc, char** argv) try {
  constexpr std::size_t smallest_input = 64 * 1024;
  detail::Options options = detail::parse_options(app, argc, argv);
  const std::size_t bytes = options.scale == 0 ? smallest_input : options.scale * app.input_bytes;
  const Corpus corpus = read_corpus(options.roots, bytes);
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no headers to read; name a directory that has some with --root\n",
                 app.name);
    return 1;
  }
  std::printf("checksum: %016" PRIx64 "\n", app.work(corpus));
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s: %s\n", app.name, error.what());
  return 1;
}

}  // namespace bench
