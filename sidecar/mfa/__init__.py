# SPDX-License-Identifier: Apache-2.0
"""
Ceremonies as functions.
"""
