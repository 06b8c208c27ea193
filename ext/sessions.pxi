# SPDX-License-Identifier: Apache-2.0
# What Python sees of session tokens.

from cpython.bytes cimport PyBytes_FromStringAndSize

from sidecar.model.errors import (
    InternalError,
    SessionExpiredError,
    SessionInvalidError,
    SessionRevokedError,
    SessionUnverifiableError,
)

cdef enum:
    SEAL_KEYS_MOST = 256

# Each state has a number of its own, so that no worker takes one for another.
cdef uint64_t session_states = 0


@cython.final
cdef class SessionState:
    """
    What session tokens are opened with: sealing keys, and what was revoked.

    Nothing counts before ``set_valid_until`` has been called.

    Thread-safety: immutable, but for ``set_valid_until``, which any thread may call at any time.
    """

    cdef SessionKeys keys
    cdef Desk *desk           # of calls from Python, under the GIL

    def __cinit__(self):
        memset(&self.keys, 0, sizeof(SessionKeys))
        self.desk = NULL

    def __init__(self, *, keys, bytes revocations):
        """
        Args:
            keys: Sealing keys, each its id of 4 bytes and 32 bytes.
            revocations: 24 bytes each, sorted, none twice: the first 16 bytes of the SHA-256 of a byte and an id, then
                the moment in milliseconds since the epoch, little-endian. The byte says what the id is: 1 the unique id
                of a principal, 2 a lineage, 3 the serial number of a device.

        Raises:
            ValueError: They are not of this form.
        """
        global session_states
        cdef SealKey *key
        if self.desk != NULL:
            raise ValueError("a session state cannot be changed")
        if not 1 <= len(keys) <= SEAL_KEYS_MOST:
            raise ValueError(f"there are 1 to {SEAL_KEYS_MOST} keys")
        if len({id for id, _ in keys}) != len(keys):
            raise ValueError("two keys have the same id")
        if len(revocations) % REVOCATION_BYTES:
            raise ValueError(f"a revocation has {REVOCATION_BYTES} bytes")
        digests = [revocations[i:i + REVOCATION_DIGEST_BYTES] for i in range(0, len(revocations), REVOCATION_BYTES)]
        if any(before >= after for before, after in zip(digests, digests[1:])):
            raise ValueError("the revocations are not in order")
        self.desk = <Desk *>calloc(1, sizeof(Desk))
        self.keys.keys = <SealKey *>calloc(len(keys), sizeof(SealKey))
        self.keys.revocations = <uint8_t *>malloc(len(revocations) + 1)
        if self.desk == NULL or self.keys.keys == NULL or self.keys.revocations == NULL:
            raise MemoryError
        if not desk_set_up(self.desk, WORKER_PYTHON):
            raise MemoryError
        if not desk_can_open(self.desk):
            raise InternalError("session tokens cannot be opened", cause="libcrypto offers no AES-256-GCM or no SHA-256")
        memcpy(self.keys.revocations, <const char *>revocations, len(revocations))
        self.keys.revocation_count = <uint32_t>(len(revocations) // REVOCATION_BYTES)
        for id, secret in keys:
            if len(id) != TOKEN_KEY_ID_BYTES or len(secret) != SEAL_KEY_BYTES:
                raise ValueError(f"a key has an id of {TOKEN_KEY_ID_BYTES} bytes and {SEAL_KEY_BYTES} bytes")
            key = &self.keys.keys[self.keys.key_count]
            memcpy(key.id, <const char *><bytes>id, TOKEN_KEY_ID_BYTES)
            memcpy(key.key, <const char *><bytes>secret, SEAL_KEY_BYTES)
            self.keys.key_count += 1
        session_states += 1
        self.keys.number = session_states
        self.desk.tokens.opener.keys = &self.keys

    def __dealloc__(self):
        if self.desk != NULL:
            desk_clear(self.desk)
            free(self.desk)
        if self.keys.keys != NULL:
            OPENSSL_cleanse(self.keys.keys, self.keys.key_count * sizeof(SealKey))
        free(self.keys.keys)
        free(self.keys.revocations)

    def set_valid_until(self, uint64_t monotonic_ns):
        """
        Say until when it is known what was revoked; tokens are denied with ``session_unverifiable`` from then on.

        Args:
            monotonic_ns: Of the monotonic clock, in nanoseconds; the greatest number of 64 bits for ever.
        """
        atomic_put(&self.keys.valid_until, monotonic_ns)

    def open(self, str token, *, Image image, int64_t seconds, uint32_t nanos):
        """
        Return what a token says, found valid by the same rules as in a decision: its access key id, then its claims.

        A proof whose device was revoked since is left out of the claims.

        Args:
            image: The snapshot that must know the principal and the person by the same unique ids; None: any will do.
            seconds: Since the epoch; the caller owns the clock.

        Raises:
            SessionInvalidError: The token is none of ours, comes from the future, or speaks for somebody else by now.
            SessionExpiredError: The session is over.
            SessionRevokedError: It was revoked.
            SessionUnverifiableError: Whether it was cannot be known.
        """
        cdef bytes text = token.encode("utf-8", "surrogatepass")
        cdef Request *request = &self.desk.request
        cdef Eval e
        cdef uint32_t refusal
        if seconds < 0:
            raise ValueError("seconds since the epoch cannot be negative")
        request_clear(request)
        request.session_token = slice_of(
            <const uint8_t *><const char *>text, <uint32_t>min(<size_t>len(text), <size_t>MAX_SESSION_TOKEN + 1)
        )
        eval_clear(&e, NULL if image is None else &image.view, request, seconds, nanos)
        token_take(&e, request, &self.desk.tokens.opener, &self.desk.tokens.narrow, clock_monotonic())
        refusal = e.token_refusal
        if refusal == REASON_UNSPECIFIED and e.image != NULL:
            e.caller = e.token.caller
            e.caller_key = e.token.principal_len
            e.caller_hash = e.token.principal_hash
            if not caller_find(&e) or not caller_is_same(&e):
                refusal = REASON_SESSION_INVALID
        if refusal != REASON_UNSPECIFIED:
            raise session_error(refusal)
        return (<const char *>e.token.access_key_id)[:TOKEN_ACCESS_KEY_ID_BYTES] + session_claims(e.token)


cdef object session_error(uint32_t refusal):
    if refusal == REASON_SESSION_EXPIRED:
        return SessionExpiredError("the session is over", help="sign in again")
    if refusal == REASON_SESSION_REVOKED:
        return SessionRevokedError("the session was revoked", help="sign in again")
    if refusal == REASON_SESSION_UNVERIFIABLE:
        return SessionUnverifiableError(
            "whether the session was revoked cannot be known: the store is out of reach", help="try again later"
        )
    return SessionInvalidError("the session token is not valid", help="sign in again")


cdef bytes session_claims(const Session *session):
    # The claims, without proofs that do not hold any more.
    cdef bytes claims = (<const char *>session.claims.data)[:session.claims.len]
    if session.bound.span.len and not session.bound.holds:
        claims = claims_without(claims, session, session.bound.span, CLAIMS_HAS_BOUND)
    if session.mfa.span.len and not session.mfa.holds:
        claims = claims_without(claims, session, session.mfa.span, CLAIMS_HAS_MFA)
    return claims


cdef bytes claims_without(bytes claims, const Session *session, Slice span, uint32_t flag):
    # *span* lies behind the flags; of two, the one that stands further back is cut first.
    cdef size_t start = span.data - session.claims.data
    return claims[:2] + bytes([claims[2] & ~flag]) + claims[3:start] + claims[start + span.len:]
