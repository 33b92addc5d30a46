// Hooks round the timed loops whose floor can be measured: floor.cpp hands
// out one static block between arm and disarm, no_floor.cpp does nothing.
// Both are called outside the loop, so that they cost nothing inside it.
#pragma once

namespace bench {

void floor_arm() noexcept;
void floor_disarm() noexcept;

// To be declared just before the timed loop. Nothing may be allocated while
// it lives but one block at a time, of at most 64 KiB and aligned to at most
// 4 KiB: the floor has only that block.
class FloorScope {
 public:
  FloorScope() noexcept { floor_arm(); }
  ~FloorScope() { floor_disarm(); }
  FloorScope(const FloorScope&) = delete;
  FloorScope& operator=(const FloorScope&) = delete;
};

}  // namespace bench
