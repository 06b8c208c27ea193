# SPDX-License-Identifier: Apache-2.0
"""
From documents to a checked model, and from the model to an image.

Every problem of a source is gathered, none is fatal by itself, and nothing here does any I/O.
"""
