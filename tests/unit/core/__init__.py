# SPDX-License-Identifier: Apache-2.0
"""Tests of the compiled core through its typed face."""
