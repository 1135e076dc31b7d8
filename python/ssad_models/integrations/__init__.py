# SPDX-License-Identifier: Apache-2.0
"""Our parts in the shape that other libraries want them; none of these is imported here."""
