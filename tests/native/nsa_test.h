// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Each takes random, partly hostile problems, and returns whether the results are what they must
// be, with one thread and with two.
bool check_medians(std::mt19937_64& random);
bool check_labels(std::mt19937_64& random);
bool check_nsa(std::mt19937_64& random);
