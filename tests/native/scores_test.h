// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Each takes a random problem, and returns whether the results are what they must be, with one
// thread and with two.
bool check_count_above(std::mt19937_64& random);
bool check_components(std::mt19937_64& random);
