# SPDX-License-Identifier: Apache-2.0
"""
Frozen nouns of the field: policies, principals, snapshots, decisions, errors.

Nothing here reads a clock, a file or the network, and nothing here changes once made.
"""
