# SPDX-License-Identifier: Apache-2.0
"""Things to start with; each one is run by a test."""
