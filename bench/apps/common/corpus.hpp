// The applications' input: the headers of the C++ compiler and of the system,
// real text that every machine with a compiler has. Which files, and in which
// order, depends on nothing but the files: those of the C++ library first,
// which are much the same everywhere, each directory in order of path, up to a
// number of bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace bench {

struct SourceFile {
  std::string path;
  std::string text;
};

using Corpus = std::vector<SourceFile>;

namespace detail {

namespace fs = std::filesystem;

// The directories in `parent` that have `below` inside them, in order of path.
inline std::vector<fs::path> subdirectories(const fs::path& parent, const fs::path& below = {}) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    const fs::path path = it->path() / below;
    std::error_code missing;
    if (fs::is_directory(path, missing)) found.push_back(path);
  }
  std::sort(found.begin(), found.end());
  return found;
}

inline std::vector<fs::path> default_roots() {
  std::vector<fs::path> roots = {"/usr/include/c++"};
  for (const fs::path& target : subdirectories("/usr/lib/gcc")) {
    for (fs::path& root : subdirectories(target, "include")) roots.push_back(std::move(root));
  }
  roots.emplace_back("/usr/include");
  roots.emplace_back("/usr/local/include");
  roots.emplace_back("/Library/Developer/CommandLineTools/usr/include");
  return roots;
}

// Symbolic links are left out: they lead to the same text twice, or in circles.
// In order of the path's bytes, which no locale changes.
inline std::vector<std::string> files_below(const fs::path& root) {
  std::vector<std::string> files;
  std::error_code error;
  constexpr auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator it(root, options, error), end; !error && it != end;
       it.increment(error)) {
    std::error_code unreadable;
    if (!it->is_symlink(unreadable) && it->is_regular_file(unreadable)) {
      files.push_back(it->path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// Only ASCII is left, since JSON wants valid UTF-8 and some headers are in
// other encodings; and no NUL.
inline std::string read_text(const fs::path& path, std::size_t max_bytes) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(max_bytes, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) >= 0x80 || c == '\0') c = '?';
  }
  return text;
}

}  // namespace detail

// At most max_bytes of text from the directories, or from the usual ones if
// none is given. Empty if there is nothing to read.
inline Corpus read_corpus(const std::vector<std::string>& directories, std::size_t max_bytes) {
  namespace fs = detail::fs;
  // One huge generated table must not be the whole input.
  constexpr std::uintmax_t largest_file = 256 * 1024;

  std::vector<fs::path> roots(directories.begin(), directories.end());
  if (roots.empty()) roots = detail::default_roots();

  Corpus corpus;
  std::set<std::string> seen;
  std::size_t left = max_bytes;
  for (const fs::path& root : roots) {
    for (const std::string& file : detail::files_below(root)) {
      if (left == 0) return corpus;
      // A root may contain one that was read before it.
      if (!seen.insert(file).second) continue;
      std::error_code error;
      const std::uintmax_t size = fs::file_size(file, error);
      if (error || size == 0 || size > largest_file) continue;
      std::string text =
          detail::read_text(file, static_cast<std::size_t>(std::min<std::uintmax_t>(size, left)));
      left -= text.size();
      if (!text.empty()) corpus.push_back({file, std::move(text)});
    }
  }
  return corpus;
}

}  // namespace bench
