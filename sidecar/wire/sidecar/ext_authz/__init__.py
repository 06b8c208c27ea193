# SPDX-License-Identifier: Apache-2.0
"""Generated from proto/ by scripts/proto; never edited by hand."""
