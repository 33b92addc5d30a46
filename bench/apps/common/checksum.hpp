// The checksum that an application prints of its results: FNV-1a with 64 bits.
// It may only be fed what does not depend on addresses, threads or time.
#pragma once

#include <cstdint>
#include <string_view>

namespace bench {

class Checksum {
 public:
  constexpr void add(std::string_view bytes) {
    for (const char c : bytes) add_byte(static_cast<unsigned char>(c));
    // A separator no text contains, for "ab", "c" and "a", "bc" to differ.
    add_byte(0xff);
  }

  constexpr void add(std::uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) add_byte((number >> shift) & 0xff);
  }

  constexpr std::uint64_t value() const { return state_; }

 private:
  constexpr void add_byte(std::uint64_t byte) {
    constexpr std::uint64_t prime = 0x100000001b3U;
    state_ = (state_ ^ byte) * prime;
  }

  std::uint64_t state_ = 0xcbf29ce484222325U;
};

constexpr std::uint64_t hash_of(std::string_view text) {
  Checksum checksum;
  checksum.add(text);
  return checksum.value();
}

}  // namespace bench
