// What plugin.cpp offers.

#ifndef SYSALLOC_TESTS_UNIT_CACHED_PLUGIN_HPP_
#define SYSALLOC_TESTS_UNIT_CACHED_PLUGIN_HPP_

#include <cstddef>

extern "C" {
void* plugin_alloc(std::size_t size);
void plugin_dealloc(void* ptr, std::size_t size);
std::size_t plugin_live();
}

#endif  // SYSALLOC_TESTS_UNIT_CACHED_PLUGIN_HPP_
