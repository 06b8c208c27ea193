# SPDX-License-Identifier: Apache-2.0
"""
The compiled core: policies in, decisions out, without a Python object in between.

This file is a table of contents. Each part owns what it is named for and uses the parts above it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

include "layout.pxi"      # records of an image, generated
include "text.pxi"        # slices, hashing, case, UTF-8
include "image.pxi"       # loading an image and proving it sound
include "glob.pxi"        # wildcards and ARNs
include "value.pxi"       # numbers, dates, addresses, base64 in a request
include "request.pxi"     # one question, bound to an image
include "condition.pxi"   # context keys, variables, condition blocks
include "rules.pxi"       # whether a rule applies, whether a set of them denies or allows
include "parties.pxi"     # caller, action, resource and its owner
include "decide.pxi"      # layers, the order of evaluation, MFA
include "explain.pxi"     # everything that led to a decision
include "wire.pxi"        # protobuf in and out
include "face.pxi"        # what Python sees
include "measure.pxi"     # timing the above from inside
