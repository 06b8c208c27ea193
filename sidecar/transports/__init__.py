# SPDX-License-Identifier: Apache-2.0
"""
The ways in and out: gRPC, HTTP, and the client that the command line uses.

The only room that knows the wire, and the only one that catches whatever comes.
"""
