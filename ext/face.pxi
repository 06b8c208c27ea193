# SPDX-License-Identifier: Apache-2.0
# What Python sees of deciding.

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, const void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)

cdef extern from "unistd.h" nogil:
    int usleep(uint32_t microseconds)

from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement, PolicyLayer, Reason, StatementMatch
from sidecar.model.errors import RequestError


cdef object reply_error(const Reply *reply):
    # What a reply that holds no answer says.
    text = (<const char *>reply.text)[:reply.text_len].decode()
    if reply.code != RPC_INVALID_ARGUMENT:
        return InternalError("no answer could be given", cause=text)
    return RequestError(text, field=(<const char *>reply.field)[:reply.field_len].decode())


cdef object fault_error(const Fault *fault):
    cdef Reply reply
    reply_fault(&reply, fault)
    return reply_error(&reply)


@cython.final
cdef class Recorder:
    """
    Counts and records the decisions that are asked for through Python.

    Thread-safety: locked; ``read_records`` belongs to one thread.
    """

    cdef Desk *desk
    cdef pthread_mutex_t lock

    def __cinit__(self):
        self.desk = <Desk *>calloc(1, sizeof(Desk))
        if self.desk == NULL:
            raise MemoryError
        pthread_mutex_init(&self.lock, NULL)
        if not desk_set_up(self.desk, WORKER_PYTHON):
            raise MemoryError

    def __dealloc__(self):
        if self.desk != NULL:
            desk_clear(self.desk)
            free(self.desk)

    def keep_log(self, *, uint64_t ring_bytes, double allows, double denials, bint must_record):
        """
        Keep records of decisions from now on; call it before the first.

        Args:
            ring_bytes: Room for records that nobody has read yet, a power of two.
            allows: The share of allows that is recorded, 0 to 1.
            denials: The same of denials.
            must_record: Whether a decision is given only if there is room for its record.
        """
        ring_start(self.desk, ring_bytes, allows, denials, must_record)

    def count_denials(self, uint32_t reason, uint64_t count):
        """Count denials that were given without asking the core, for *reason*, a number of ``Reason``."""
        if reason >= REASON_WORDS_COUNT:
            raise ValueError("there is no such reason")
        with nogil:
            pthread_mutex_lock(&self.lock)
            count_add(&self.desk.telemetry.decisions[DECISION_IMPLICIT_DENY][LAYER_UNSPECIFIED][reason], count)
            pthread_mutex_unlock(&self.lock)

    def telemetry(self):
        """Return what was counted so far."""
        return telemetry_dict(&self.desk.telemetry, &self.desk.ring, &self.desk.tokens.opener)

    def read_records(self, uint64_t most=1 << 20):
        """Return records that have not been read yet, one behind the other, at most *most* bytes of them."""
        return ring_read(&self.desk.ring, most)


cdef object ring_start(Desk *desk, uint64_t ring_bytes, double allows, double denials, bint must_record):
    cdef uint32_t[4] keep
    if ring_bytes < 4096 or ring_bytes & (ring_bytes - 1):
        raise ValueError("the room for records is a power of two from 4096 on")
    if not (0 <= allows <= 1 and 0 <= denials <= 1):
        raise ValueError("a share is a number from 0 to 1")
    keep[0] = keep[DECISION_EXPLICIT_DENY] = keep[DECISION_IMPLICIT_DENY] = <uint32_t>(denials * KEEP_ALL)
    keep[DECISION_ALLOW] = <uint32_t>(allows * KEEP_ALL)
    if not desk_keep_log(desk, ring_bytes, keep, must_record):
        raise MemoryError


cdef object ring_read(Ring *ring, uint64_t most):
    cdef uint64_t waiting = atomic_get(&ring.head) - ring.tail
    if ring.data == NULL or waiting == 0:
        return b""
    cdef bytes block = PyBytes_FromStringAndSize(NULL, min(waiting, most))
    cdef uint8_t *out = <uint8_t *><char *>block
    cdef uint64_t taken
    with nogil:
        taken = ring_copy_out(ring, out, min(waiting, most))
    return block if taken == len(block) else block[:taken]


cdef object histogram_dict(const Histogram *histogram):
    cdef uint32_t i
    return {
        "sum": atomic_peek(&histogram.sum),
        "counts": [atomic_peek(&histogram.counts[i]) for i in range(SLOTS)],
    }


cdef object telemetry_dict(const Telemetry *telemetry, const Ring *ring, const Opener *opener):
    cdef uint32_t i, j, k
    # Before the head, which is never behind it.
    cdef uint64_t tail = atomic_get(&ring.tail)
    return {
        "decisions": {
            (i, j, k): atomic_peek(&telemetry.decisions[i][j][k])
            for i in range(4) for j in range(LAYER_COUNT) for k in range(REASON_WORDS_COUNT)
            if atomic_peek(&telemetry.decisions[i][j][k])
        },
        "shadow": {
            (i, j): atomic_peek(&telemetry.shadow[i][j])
            for i in range(4) for j in range(4) if atomic_peek(&telemetry.shadow[i][j])
        },
        "reading": histogram_dict(&telemetry.reading),
        "deciding": histogram_dict(&telemetry.deciding),
        "request": histogram_dict(&telemetry.request),
        "rpcs": {
            (i, j): atomic_peek(&telemetry.rpcs[i][j])
            for i in range(METHOD_COUNT) for j in range(RPC_COUNT) if atomic_peek(&telemetry.rpcs[i][j])
        },
        "told": [atomic_peek(&telemetry.told[i]) for i in range(CHECK_COUNT)],
        "batch_requests": atomic_peek(&telemetry.batch_requests),
        "limits": [atomic_peek(&telemetry.limits[i]) for i in range(LIMIT_COUNT)],
        "closed": [atomic_peek(&telemetry.closed[i]) for i in range(CLOSE_COUNT)],
        "accepted": atomic_peek(&telemetry.accepted),
        "connections": atomic_peek(&telemetry.connections),
        "streams": atomic_peek(&telemetry.streams),
        "parked": atomic_peek(&telemetry.parked),
        "tokens_opened": atomic_peek(&opener.opened),
        "tokens_known": atomic_peek(&opener.known_again),
        "offered": atomic_peek(&ring.offered),
        "sampled_out": atomic_peek(&ring.sampled_out),
        "dropped": atomic_peek(&ring.dropped),
        "waiting_bytes": atomic_get(&ring.head) - tail,
    }


cdef extern from *:
    """
    #include <features.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    #define give_back() malloc_trim(0)
    #else
    #define give_back() 0
    #endif
    """
    int give_back() nogil


def return_memory():
    """Return to the system what the allocator keeps for later, after work that needed much for a while."""
    with nogil:
        give_back()


def histogram_edges():
    """Return the lower edge of each slot of a histogram, in nanoseconds."""
    return [i if i < STEPS else (STEPS + i % STEPS) << (i // STEPS - 1) for i in range(SLOTS)]


# Of those who do not ask what was counted.
cdef Recorder nobodys_recorder = Recorder()


cdef object ask(
    Image image, bytes request, int64_t seconds, uint32_t nanos, Recorder recorder, SessionState sessions, bint batch
):
    cdef Reply reply
    cdef const SessionKeys *keys = NULL
    cdef ClockReading now
    cdef const ImageView *view = NULL if image is None else &image.view
    cdef Slice message = slice_of(
        <const uint8_t *><const char *>request, <uint32_t>min(<size_t>len(request), <size_t>MAX_BATCH_BYTES + 1)
    )
    if seconds < 0:
        raise ValueError("seconds since the epoch cannot be negative")
    now.seconds = seconds
    now.nanos = nanos
    if recorder is None:
        recorder = nobodys_recorder
    if sessions is not None:
        keys = &sessions.keys
    with nogil:
        pthread_mutex_lock(&recorder.lock)
        recorder.desk.tokens.opener.keys = NULL
        if keys != NULL and desk_can_open(recorder.desk):
            recorder.desk.tokens.opener.keys = keys
        if batch:
            answer_batch(recorder.desk, view, message, now, &reply)
        else:
            answer_authorize(recorder.desk, view, message, now, &reply)
        if reply.waits:
            reply.answer_len = wait_for_place(recorder, METHOD_BATCH_AUTHORIZE if batch else METHOD_AUTHORIZE, &reply)
        pthread_mutex_unlock(&recorder.lock)
    if reply.code != RPC_OK:
        raise reply_error(&reply)
    try:
        return (<const char *>reply.answer)[FRAMING:FRAMING + reply.answer_len]
    finally:
        if reply.answer_owned:
            free(reply.answer)


cdef uint64_t wait_for_place(Recorder recorder, uint32_t method, Reply *reply) noexcept nogil:
    # Wait, at most PARK_NANOS, until the records of *reply* have a place, or turn it into denials. Returns its length.
    cdef uint64_t latest = clock_monotonic() + PARK_NANOS
    count_add(&recorder.desk.telemetry.parked, 1)
    while not staging_commit(recorder.desk, &reply.staging):
        if clock_monotonic() >= latest:
            return staging_refuse(recorder.desk, &reply.staging, method, reply.answer + FRAMING)
        # Others may decide meanwhile: what waits is in the reply.
        pthread_mutex_unlock(&recorder.lock)
        usleep(1000)
        pthread_mutex_lock(&recorder.lock)
    return reply.answer_len


def authorize(
    Image image, bytes request, *, int64_t seconds, uint32_t nanos, Recorder recorder=None, SessionState sessions=None
):
    """
    Decide one serialized ``AuthorizeRequest`` and return the serialized ``AuthorizeResponse``.

    The caller owns the clock: *seconds* since the epoch and *nanos*. Runs without the GIL.

    Args:
        image: The snapshot to decide by; None gives the denial ``no_snapshot``.
        recorder: Counts and records the decision.
        sessions: What session tokens are opened with; None: every one is denied with ``session_invalid``.

    Raises:
        RequestError: The request is malformed; its ``field`` names where.
    """
    return ask(image, request, seconds, nanos, recorder, sessions, False)


def batch_authorize(
    Image image, bytes request, *, int64_t seconds, uint32_t nanos, Recorder recorder=None, SessionState sessions=None
):
    """
    Decide a serialized ``BatchAuthorizeRequest``, all of it under *image*, in order.

    Raises:
        RequestError: The batch is empty, too large, or holds a malformed request, which
            ``field`` names by its index. Nothing is answered then.
    """
    return ask(image, request, seconds, nanos, recorder, sessions, True)


def _field(number, data):
    length = len(data)
    head = bytearray([number << 3 | WIRE_BYTES])
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + data


def _map(number, mapping):
    parts = []
    for key, value in mapping.items():
        body = b"".join([_field(1, text.encode("utf-8", "surrogatepass")) for text in value.values])
        if value.multivalued:
            body += b"\x10\x01"
        parts.append(_field(number, _field(1, key.encode("utf-8", "surrogatepass")) + _field(2, body)))
    return b"".join(parts)


def encode_request(request):
    """Return *request* as a serialized ``AuthorizeRequest``; overrides are no part of it."""
    return b"".join(
        [
            _field(2, request.session_token.encode("utf-8", "surrogatepass"))
            if request.session_token
            else _field(1, request.principal.encode("utf-8", "surrogatepass")),
            _field(3, request.action.encode("utf-8", "surrogatepass")),
            _field(4, request.resource.encode("utf-8", "surrogatepass")),
            _map(5, request.context),
            _field(6, request.resource_account.encode("utf-8", "surrogatepass")),
        ]
    )


cdef object mfa_object(const MfaAnswer *mfa):
    if not mfa.needed:
        return None
    return MfaRequirement(
        max_age_seconds=mfa.max_age if mfa.has_max_age else None,
        methods=tuple([method for method in MfaMethod if mfa.methods >> method & 1]),
        user_verification=bool(mfa.user_verification),
    )


cdef str principal_str(const Request *request):
    if request.principal.len == 0:
        return ""
    return (<const char *>request.principal.data)[:request.principal.len].decode()


def explain(
    Image image, request, *, int64_t seconds, uint32_t nanos, bint simulation=False, SessionState sessions=None
):
    """
    Decide *request* and return an `Answer` with everything that led to it.

    Args:
        request: A `sidecar.model.request.AuthorizationRequest`; its overrides win over every other source of a key.
        simulation: Whether a federated user may be the principal.
        sessions: What session tokens are opened with; None: every one is denied with ``session_invalid``.

    Raises:
        RequestError: The request is malformed; its ``field`` names where.
    """
    cdef Request parsed
    cdef ShadowRoom room
    cdef Outcome enforced
    cdef uint32_t shadow = DECISION_UNSPECIFIED
    cdef Fault fault
    cdef Reader reader
    cdef Eval e
    cdef Layers layers
    cdef MfaAnswer mfa
    cdef Outcome result
    cdef bytes message = _field(1, encode_request(request)) + _map(2, request.override)
    if seconds < 0:
        raise ValueError("seconds since the epoch cannot be negative")
    if image is None and len(message) <= 2 * MAX_REQUEST_BYTES:
        fault_clear(&fault)
        request_clear(&parsed)
        reader = reader_of(slice_of(<const uint8_t *><const char *>message, len(message)))
        if not read_explain(&reader, &parsed, &fault):
            raise fault_error(&fault)
        return Answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.NO_SNAPSHOT, principal_arn=principal_str(&parsed))
    if len(message) > 2 * MAX_REQUEST_BYTES:
        raise RequestError(f"`request` cannot be used: it is longer than {MAX_REQUEST_BYTES} bytes", field="request")
    fault_clear(&fault)
    request_clear(&parsed)
    reader = reader_of(slice_of(<const uint8_t *><const char *>message, len(message)))
    if not read_explain(&reader, &parsed, &fault):
        raise fault_error(&fault)
    parsed.simulation = simulation
    eval_clear(&e, &image.view, &parsed, seconds, nanos)
    if parsed.has_session_token:
        token_take(
            &e, &parsed, NULL if sessions is None else &sessions.desk.tokens.opener,
            NULL if sessions is None else &sessions.desk.tokens.narrow, clock_monotonic(),
        )
    if not request_read(&e, &parsed, &fault):
        raise fault_error(&fault)
    result = decide(&e, &parsed, &layers, &mfa, &fault)
    if fault.field != NULL:
        raise fault_error(&fault)
    matches, missing = (), ()
    # Where the parties settled it (rules 2 to 4) no statement was asked.
    if result.layer != LAYER_UNSPECIFIED:
        matches, missing = explain_layers(&e, &layers)
    if image.view.shadow != NULL:
        enforced = result
        shadow = shadow_decide(&e, &parsed, &room, &result, &mfa)
        if enforced.decision != result.decision:
            matches, missing = (), ()
            if result.layer != LAYER_UNSPECIFIED:
                matches, missing = explain_layers(&room.eval, &room.layers)
    return Answer(
        decision=Decision(result.decision),
        layer=PolicyLayer(result.layer),
        reason=Reason(result.reason),
        mfa_requirement=mfa_object(&mfa),
        principal_arn=principal_str(&parsed),
        matched_statements=matches,
        missing_context_keys=missing,
        shadow_decision=Decision(shadow),
    )
