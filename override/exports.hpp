// The functions that a loaded object exports, read from its own tables (elf(5)): dlsym(3) would
// want a handle, which takes memory to get, and of what was loaded with RTLD_LOCAL one has to know
// the file.
#pragma once

#include <link.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

namespace sysalloc::detail {

/// The table of hashes is GNU's, which linkers for Linux write if they are not told otherwise. Its
/// words:
///
///   buckets | first symbol | words of the filter, as wide as an address | shift | the filter
///   for each bucket its first symbol | for each symbol its hash, odd where a bucket ends
class Exports {
  using Symbol = ElfW(Sym);

 public:
  explicit Exports(const dl_phdr_info& object) noexcept : base_(object.dlpi_addr) {
    const std::span headers(object.dlpi_phdr, object.dlpi_phnum);
    const ElfW(Dyn)* entry = nullptr;
    for (const auto& header : headers) {
      if (header.p_type != PT_DYNAMIC) continue;
      entry = reinterpret_cast<const ElfW(Dyn)*>(base_ + header.p_vaddr);
    }
    // Modulo 2^n, as the base is of an object that lies below where it was linked for.
    const auto is_inside = [this, headers](ElfW(Addr) address) {
      return std::ranges::any_of(headers, [&](const auto& header) {
        return header.p_type == PT_LOAD && address - base_ - header.p_vaddr < header.p_memsz;
      });
    };
    for (; entry != nullptr && entry->d_tag != DT_NULL; ++entry) {
      // glibc adds the base in place; of the vDSO, and with other C libraries, nobody does.
      const auto value = entry->d_un.d_ptr;
      const auto address = is_inside(value) ? value : base_ + value;
      if (entry->d_tag == DT_SYMTAB) symbols_ = reinterpret_cast<const Symbol*>(address);
      if (entry->d_tag == DT_STRTAB) names_ = reinterpret_cast<const char*>(address);
      if (entry->d_tag == DT_GNU_HASH) hashes_ = reinterpret_cast<const std::uint32_t*>(address);
    }
  }

  /// nullptr when there is none of that name. Takes no lock and allocates nothing.
  [[nodiscard]] void* find(const char* name) const noexcept {
    if (symbols_ == nullptr || names_ == nullptr || hashes_ == nullptr) return nullptr;
    const std::uint32_t buckets = hashes_[0];
    const std::uint32_t first = hashes_[1];
    const std::uint32_t* const bucket = hashes_ + 4 + hashes_[2] * (sizeof(base_) / 4);
    const std::uint32_t* const chain = bucket + buckets;

    std::uint32_t hash = 5381;
    for (const char* at = name; *at != '\0'; ++at) {
      hash = hash * 33 + static_cast<unsigned char>(*at);
    }
    std::uint32_t index = buckets == 0 ? 0 : bucket[hash % buckets];
    if (index < first) return nullptr;
    for (;; ++index) {
      const std::uint32_t found = chain[index - first];
      const auto& symbol = symbols_[index];
      // What a program only calls may be among them, so that all have one address for it.
      if ((found | 1) == (hash | 1) && symbol.st_shndx != SHN_UNDEF &&
          std::strcmp(names_ + symbol.st_name, name) == 0) {
        return reinterpret_cast<void*>(base_ + symbol.st_value);
      }
      if (found % 2 != 0) return nullptr;
    }
  }

 private:
  ElfW(Addr) base_;
  const Symbol* symbols_ = nullptr;
  const char* names_ = nullptr;
  const std::uint32_t* hashes_ = nullptr;
};

}  // namespace sysalloc::detail
