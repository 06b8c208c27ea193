# SPDX-License-Identifier: Apache-2.0
"""Tests, by what they prove: see the folders."""
