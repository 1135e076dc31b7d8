// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <random>

// Each takes a random problem, and returns whether the results are what they must be, with one
// thread and with two.
bool check_cell_masks(std::mt19937_64& random);
bool check_mask_images(std::mt19937_64& random);
bool check_composite(std::mt19937_64& random);
bool check_refine_cells(std::mt19937_64& random);
