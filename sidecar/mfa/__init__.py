# SPDX-License-Identifier: Apache-2.0
"""
A second factor, verified: WebAuthn and U2F keys, TOTP codes, recovery codes, the FIDO metadata about authenticators.

Pure functions: challenges, random bytes, the time and what is stored are handed in; what is to be stored comes back.
Whatever bytes a client sends, a function here gives an answer or raises a subclass of ``MfaError``.
"""
