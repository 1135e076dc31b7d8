// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Takes a random law and batch, and returns whether the results are what they must be, with one
// thread and with two.
bool check_nsa_keyed(std::mt19937_64& random);
