# SPDX-License-Identifier: Apache-2.0
"""Measurements, run by hand through ``scripts/bench``."""
