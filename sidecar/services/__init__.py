# SPDX-License-Identifier: Apache-2.0
"""
What the sidecar does over time: hold a snapshot, decide, simulate, count, guard.

Services own clocks, files and threads; what they know of policies they ask the rooms to their left.
They name no transport.
"""
