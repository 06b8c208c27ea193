# SPDX-License-Identifier: Apache-2.0
"""
The compiled core: policies in, decisions out, without a Python object in between.

This file is a table of contents. Each part owns what it is named for and uses the parts above it.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strcmp

include "layout.pxi"      # records of an image, generated
include "text.pxi"        # slices, hashing, case, UTF-8
include "atomic.pxi"      # words that several threads share
include "image.pxi"       # where everything stands in an image
include "sound.pxi"       # proving an image sound
include "sound_routes.pxi"  # the same of its routes
include "load.pxi"        # memory of an image, and what Python sees of it
include "glob.pxi"        # wildcards and ARNs
include "value.pxi"       # numbers, dates, addresses, base64 in a request
include "request.pxi"     # one question, bound to an image
include "protobuf.pxi"    # how messages are written down
include "attributes.pxi"  # what Envoy says of a request
include "seal.pxi"        # seals and digests, through libcrypto
include "claims.pxi"      # what a session token says
include "token.pxi"       # session tokens: opened, checked, known again
include "path.pxi"        # the target of a request
include "route.pxi"       # which route it takes
include "template.pxi"    # values of a request in the templates of an image
include "caller.pxi"      # who calls
include "route_bind.pxi"  # a request that took a route, as a question
include "condition.pxi"   # context keys, variables, condition blocks
include "rules.pxi"       # whether a rule applies, whether a set of them denies or allows
include "parties.pxi"     # caller, action, resource and its owner
include "decide.pxi"      # layers, the order of evaluation, MFA
include "shadow.pxi"      # the same with what is tried before it is enforced
include "explain.pxi"     # everything that led to a decision
include "wire.pxi"        # AuthorizeRequest in, AuthorizeResponse out
include "ticket.pxi"      # step-up tickets, sealed
include "client.pxi"      # what headers tell of whoever sent a request
include "hygiene.pxi"     # what an upstream must not get from a client
include "check_wire.pxi"  # Envoy's CheckResponse, written
include "telemetry.pxi"   # counters, histograms and the ring of decision records
include "answer.pxi"      # one request or batch, decided, counted and recorded
include "check.pxi"       # one request of Envoy, decided, counted and recorded
include "sessions.pxi"    # what Python sees of session tokens
include "face.pxi"        # what Python sees of deciding
include "resolve.pxi"     # what Python sees of routes
include "check_face.pxi"  # what Python sees of answering Envoy
include "http2.pxi"       # HTTP/2 and gRPC: connections, streams and calls, without sockets
include "worker.pxi"      # threads, sockets, and snapshots on their way to them
include "server.pxi"      # what Python sees of the data listener
include "probe.pxi"       # one connection without its socket, for tests
include "measure.pxi"     # timing the above from inside
