// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime.h"

namespace ssad::cuda {

const char* build() { return "emulated"; }

Runtime runtime() { return {}; }

}  // namespace ssad::cuda
