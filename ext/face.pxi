# SPDX-License-Identifier: Apache-2.0
# What Python sees of the core. Only this part holds the GIL.

from sidecar.model.decision import Answer, Decision, MfaMethod, MfaRequirement, PolicyLayer, Reason, StatementMatch
from sidecar.model.errors import InternalError, RequestError


cdef object fault_error(const Fault *fault, str prefix=""):
    field = fault.field.decode()
    if field in ("context", "override") and fault.key.len:
        name = (<const char *>fault.key.data)[:min(fault.key.len, 64)].decode("utf-8", "replace")
        field = f"{field}[{name}]"
    message = fault.message.decode()
    return RequestError(f"`{prefix}{field}` cannot be used: {message}", field=prefix + field)


cdef inline void fault_clear(Fault *fault) noexcept nogil:
    fault.field = NULL
    fault.message = NULL
    fault.key = slice_of(NULL, 0)
    fault.index = 0


def authorize(Image image, bytes request, *, int64_t seconds, uint32_t nanos):
    """
    Decide one serialized ``AuthorizeRequest`` and return the serialized ``AuthorizeResponse``.

    The caller owns the clock: *seconds* since the epoch and *nanos*. Runs without the GIL.

    Args:
        image: The snapshot to decide by; None gives the denial ``no_snapshot``.

    Raises:
        RequestError: The request is malformed; its ``field`` names where.
    """
    cdef Request parsed
    cdef Fault fault
    cdef uint8_t[ANSWER_OVERHEAD + MAX_PRINCIPAL] out
    cdef uint8_t *end
    cdef const ImageView *view = NULL if image is None else &image.view
    cdef Slice message = slice_of(<const uint8_t *><const char *>request, min(len(request), MAX_REQUEST_BYTES + 1))
    if seconds < 0:
        raise ValueError("seconds since the epoch cannot be negative")
    fault_clear(&fault)
    with nogil:
        end = answer_bytes(view, message, seconds, nanos, &parsed, out, &fault)
    if end == NULL:
        raise fault_error(&fault)
    return (<const char *>out)[:end - out]


cdef uint8_t *batch_bytes(
    const ImageView *image, Slice message, int64_t seconds, uint32_t nanos, uint8_t *out, Fault *fault
) noexcept nogil:
    # BatchAuthorizeRequest to BatchAuthorizeResponse; *out* has room for every answer and its header.
    cdef Reader reader = reader_of(message)
    cdef Request parsed
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef uint32_t count = 0
    cdef uint8_t[ANSWER_OVERHEAD + MAX_PRINCIPAL] answer
    cdef uint8_t *end
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            malformed(fault, b"requests")
            return NULL
        if field != 1 or wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                malformed(fault, b"requests")
                return NULL
            continue
        if count >= MAX_BATCH_REQUESTS:
            fault_set(fault, b"requests", b"there are more than 1000")
            return NULL
        if not read_slice(&reader, &inner):
            malformed(fault, b"requests")
            return NULL
        fault.index = count + 1
        end = answer_bytes(image, inner, seconds, nanos, &parsed, answer, fault)
        if end == NULL:
            return NULL
        fault.index = 0
        count += 1
        out[0] = 1 << 3 | WIRE_BYTES
        out = write_varint(out + 1, end - answer)
        memcpy(out, answer, end - answer)
        out += end - answer
    if count == 0:
        fault_set(fault, b"requests", b"there are none")
        return NULL
    return out


def batch_authorize(Image image, bytes request, *, int64_t seconds, uint32_t nanos):
    """
    Decide a serialized ``BatchAuthorizeRequest``, all of it under *image*, in order.

    Raises:
        RequestError: The batch is empty, too large, or holds a malformed request, which
            ``field`` names by its index. Nothing is answered then.
    """
    cdef Fault fault
    cdef const ImageView *view = NULL if image is None else &image.view
    cdef Slice message
    cdef uint8_t *out
    cdef uint8_t *end
    if seconds < 0:
        raise ValueError("seconds since the epoch cannot be negative")
    if len(request) > MAX_BATCH_BYTES:
        raise RequestError(f"`requests` cannot be used: {len(request)} bytes are more than {MAX_BATCH_BYTES}", field="requests")
    message = slice_of(<const uint8_t *><const char *>request, len(request))
    fault_clear(&fault)
    # An answer repeats its principal and adds a bounded rest; no request is shorter than two bytes.
    room = len(request) + (ANSWER_OVERHEAD + 8) * <size_t>min(len(request) // 2 + 1, MAX_BATCH_REQUESTS)
    out = <uint8_t *>malloc(room)
    if out == NULL:
        raise MemoryError
    try:
        with nogil:
            end = batch_bytes(view, message, seconds, nanos, out, &fault)
        if end == NULL:
            raise fault_error(&fault, f"requests[{fault.index - 1}]." if fault.index else "")
        return (<const char *>out)[:end - out]
    finally:
        free(out)


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
            _field(1, request.principal.encode("utf-8", "surrogatepass")),
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


def explain(Image image, request, *, int64_t seconds, uint32_t nanos, bint simulation=False):
    """
    Decide *request* and return an `Answer` with everything that led to it.

    Args:
        request: A `sidecar.model.request.AuthorizationRequest`; its overrides win over every other source of a key.
        simulation: Whether a federated user may be the principal.

    Raises:
        RequestError: The request is malformed; its ``field`` names where.
    """
    cdef Request parsed
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
        return Answer(Decision.IMPLICIT_DENY, PolicyLayer.UNSPECIFIED, Reason.NO_SNAPSHOT, principal_arn=request.principal)
    if len(message) > 2 * MAX_REQUEST_BYTES:
        raise RequestError(f"`request` cannot be used: it is longer than {MAX_REQUEST_BYTES} bytes", field="request")
    fault_clear(&fault)
    request_clear(&parsed)
    reader = reader_of(slice_of(<const uint8_t *><const char *>message, len(message)))
    if not read_explain(&reader, &parsed, &fault):
        raise fault_error(&fault)
    parsed.simulation = simulation
    eval_clear(&e, &image.view, &parsed, seconds, nanos)
    if not request_read(&e, &parsed, &fault):
        raise fault_error(&fault)
    result = decide(&e, &parsed, &layers, &mfa, &fault)
    if fault.field != NULL:
        raise fault_error(&fault)
    matches, missing = (), ()
    # Where the parties settled it (rules 2 to 4) no statement was asked.
    if result.layer != LAYER_UNSPECIFIED:
        matches, missing = explain_layers(&e, &layers)
    return Answer(
        decision=Decision(result.decision),
        layer=PolicyLayer(result.layer),
        reason=Reason(result.reason),
        mfa_requirement=mfa_object(&mfa),
        principal_arn=request.principal,
        matched_statements=matches,
        missing_context_keys=missing,
    )
