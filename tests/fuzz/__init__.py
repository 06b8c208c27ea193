# SPDX-License-Identifier: Apache-2.0
"""Hostile bytes for every reader, run through ``scripts/fuzz``."""
