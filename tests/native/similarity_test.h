// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Similarity maps against sums written out, in memory of the exact size, for any threads.
bool check_similarity(std::mt19937_64& random);
