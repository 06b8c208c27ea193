# SPDX-License-Identifier: Apache-2.0
"""The pages of the prompt, on real services."""
