// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Blends random, partly hostile samples; returns whether the results are what they must be.
bool check_blend(std::mt19937_64& random);
