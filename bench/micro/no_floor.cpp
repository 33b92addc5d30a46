// The floor's hooks for every other variant: nothing to arm.
#include "floor.hpp"

namespace bench {

void floor_arm() noexcept {}
void floor_disarm() noexcept {}

}  // namespace bench
