# SPDX-License-Identifier: Apache-2.0
"""Real processes, real sockets, real files."""
