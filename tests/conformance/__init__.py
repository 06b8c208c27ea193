# SPDX-License-Identifier: Apache-2.0
"""Cases with known answers, as data files; the same cases run on every evaluator."""
