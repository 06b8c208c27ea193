# SPDX-License-Identifier: Apache-2.0
"""
The example company, and a program that asks the sidecar about it.
"""
