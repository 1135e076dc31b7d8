// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Takes a random problem, and returns whether the noise is that of the definition, and the same
// with one thread and with two.
bool check_perlin(std::mt19937_64& random);
