# SPDX-License-Identifier: Apache-2.0
"""
Sessions: passwords, sealed tokens, roles that are assumed, and what ends a session before its time.

``service`` is what others call. ``keys`` and ``watching`` keep a process ready to open tokens, and need neither a
database nor cryptography in its memory; the modules that issue tokens are loaded when the first one is asked for.
"""
