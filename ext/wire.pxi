# SPDX-License-Identifier: Apache-2.0
# Protobuf in and out: AuthorizeRequest read in place, AuthorizeResponse written into a buffer.
# The messages are those of proto/sidecar/v1/authorization.proto.

cdef enum:
    # An answer without its principal: two enums, a reason, an MFA requirement, a revision.
    ANSWER_OVERHEAD = 256
    ANSWER_MOST = ANSWER_OVERHEAD + MAX_PRINCIPAL


cdef inline const char *context_field(bint overriding) noexcept nogil:
    # Where an entry of a map stands, as callers name it.
    return b"override" if overriding else b"context"


cdef bint read_context_value(Reader *reader, Request *request, ContextEntry *entry, Fault *fault) noexcept nogil:
    # A ContextValue.
    cdef const char *where = context_field(entry.overriding)
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef uint64_t number
    while reader.here != reader.end:
        if not read_tag(reader, &field, &wire_type):
            return malformed(fault, where)
        if field == 1 and wire_type == WIRE_BYTES:
            if request.value_count >= MAX_CONTEXT_VALUES:
                return fault_set(fault, where, b"there are more than 1024 values")
            if not read_text(reader, &request.values[request.value_count], where, fault):
                return False
            request.value_count += 1
            entry.count += 1
        elif field == 2 and wire_type == WIRE_VARINT:
            if not read_varint(reader, &number):
                return malformed(fault, where)
            entry.multivalued = number != 0
        elif not skip_field(reader, wire_type):
            return malformed(fault, where)
    return True


cdef bint read_context_entry(Reader *reader, Request *request, bint overriding, Fault *fault) noexcept nogil:
    # One entry of map<string, ContextValue>. The order of key and value is free; a value given in parts is one value.
    cdef const char *where = context_field(overriding)
    cdef ContextEntry *entry
    cdef Reader inner
    cdef int found
    cdef Slice text
    cdef uint32_t field
    cdef uint32_t wire_type
    if overriding:
        if request.override_count >= MAX_CONTEXT_KEYS:
            return fault_set(fault, where, b"there are more than 128 keys")
        request.override_count += 1
    elif request.entry_count - request.override_count >= MAX_CONTEXT_KEYS:
        return fault_set(fault, where, b"there are more than 128 keys")
    entry = &request.entries[request.entry_count]
    request.entry_count += 1
    entry.name = slice_of(NULL, 0)
    entry.first = request.value_count
    entry.count = 0
    entry.multivalued = False
    entry.overriding = overriding
    while reader.here != reader.end:
        if not read_tag(reader, &field, &wire_type):
            return malformed(fault, where)
        if field == 1 and wire_type == WIRE_BYTES:
            if not read_slice(reader, &entry.name):
                return malformed(fault, where)
            found = text_check(entry.name.data, entry.name.len)
            if found == TEXT_INVALID:
                return fault_set(fault, where, b"a key is not valid UTF-8")
            fault.key = entry.name
            if found == TEXT_WITH_NUL:
                return fault_set(fault, where, b"the key holds a NUL character")
        elif field == 2 and wire_type == WIRE_BYTES:
            if not read_slice(reader, &text):
                return malformed(fault, where)
            inner = reader_of(text)
            if not read_context_value(&inner, request, entry, fault):
                return False
        elif not skip_field(reader, wire_type):
            return malformed(fault, where)
    return True


cdef bint read_map_entry(Reader *reader, Request *request, bint overriding, Fault *fault) noexcept nogil:
    cdef Slice text
    cdef Reader inner
    fault.key = slice_of(NULL, 0)
    if not read_slice(reader, &text):
        return malformed(fault, context_field(overriding))
    inner = reader_of(text)
    return read_context_entry(&inner, request, overriding, fault)


cdef bint read_authorize(Reader *reader, Request *request, Fault *fault) noexcept nogil:
    # An AuthorizeRequest. Of the two members of `caller` the last one counts, as protobuf has it.
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef Slice text
    while reader.here != reader.end:
        if not read_tag(reader, &field, &wire_type):
            return malformed(fault, b"request")
        if wire_type != WIRE_BYTES:
            if not skip_field(reader, wire_type):
                return malformed(fault, b"request")
        elif field == 1:
            if not read_text(reader, &request.principal, b"principal", fault):
                return False
            request.has_session_token = False
        elif field == 2:
            if not read_text(reader, &request.session_token, b"session_token", fault):
                return False
            request.principal = slice_of(NULL, 0)
            request.has_session_token = True
            request.token_fields += 1
        elif field == 3:
            if not read_text(reader, &request.action, b"action", fault):
                return False
        elif field == 4:
            if not read_text(reader, &request.resource, b"resource", fault):
                return False
        elif field == 5:
            if not read_map_entry(reader, request, False, fault):
                return False
        elif field == 6:
            if not read_text(reader, &request.resource_account, b"resource_account", fault):
                return False
        elif not read_slice(reader, &text):
            return malformed(fault, b"request")
    return True


cdef bint read_explain(Reader *reader, Request *request, Fault *fault) noexcept nogil:
    # An ExplainRequest.
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef Slice text
    cdef Reader inner
    while reader.here != reader.end:
        if not read_tag(reader, &field, &wire_type):
            return malformed(fault, b"request")
        if field == 1 and wire_type == WIRE_BYTES:
            if not read_slice(reader, &text):
                return malformed(fault, b"request")
            inner = reader_of(text)
            if not read_authorize(&inner, request, fault):
                return False
        elif field == 2 and wire_type == WIRE_BYTES:
            if not read_map_entry(reader, request, True, fault):
                return False
        elif not skip_field(reader, wire_type):
            return malformed(fault, b"request")
    return True


# Writing. Callers provide room for the longest answer.

cdef uint8_t *write_mfa(uint8_t *out, const MfaAnswer *mfa) noexcept nogil:
    # An MfaRequirement as field 4.
    cdef uint8_t body[96]
    cdef uint8_t *end = body
    cdef uint32_t i
    if mfa.has_max_age:
        end[0] = 1 << 3 | WIRE_VARINT
        end = write_varint(end + 1, mfa.max_age)
    for i in range(4):
        if mfa.methods >> i & 1:
            end = write_field(end, 2, MFA_WORDS[i], <uint32_t>strlen(MFA_WORDS[i]))
    if mfa.user_verification:
        end = write_enum(end, 3, 1)
    return write_field(out, 4, body, <uint32_t>(end - body))


cdef uint8_t *write_answer(
    uint8_t *out, const ImageView *image, const Request *request, Outcome result, const MfaAnswer *mfa, uint32_t shadow
) noexcept nogil:
    # An AuthorizeResponse. *shadow*: DECISION_*, if the same was asked with what stands in shadow.
    out = write_enum(out, 1, result.decision)
    out = write_enum(out, 2, result.layer)
    out = write_field(out, 3, REASON_WORDS[result.reason], <uint32_t>strlen(REASON_WORDS[result.reason]))
    if mfa.needed:
        out = write_mfa(out, mfa)
    if image != NULL:
        out = write_field(out, 5, image.revision, 64)
    out = write_enum(out, 6, shadow)
    return write_field(out, 7, request.principal.data, request.principal.len)


cdef bint question_read(
    const ImageView *image,
    Opener *opener,
    Narrow *narrow,
    Slice message,
    int64_t seconds,
    uint32_t nanos,
    uint64_t monotonic,
    Eval *e,
    Request *request,
    Fault *fault,
) noexcept nogil:
    # An AuthorizeRequest, checked and bound to *image*, which may be NULL; False with *fault* set. What a session token in
    # it says stands in *opener* until the next one is opened.
    cdef Reader reader = reader_of(message)
    request_clear(request)
    e.image = image
    e.token = NULL
    if message.len > MAX_REQUEST_BYTES:
        return fault_set(fault, b"request", b"it is longer than 65536 bytes")
    if not read_authorize(&reader, request, fault):
        return False
    if image == NULL:
        if request.principal.len > MAX_PRINCIPAL:
            return fault_set(fault, b"principal", b"it is too long")
        return True
    eval_clear(e, image, request, seconds, nanos)
    if UNLIKELY(request.has_session_token):
        token_take(e, request, opener, narrow, monotonic)
    return request_read(e, request, fault)


cdef uint8_t *question_answer(
    Eval *e, Request *request, ShadowRoom *room, uint8_t *out, Outcome *result, Fault *fault
) noexcept nogil:
    # What question_read has read, decided; the AuthorizeResponse ends where the result points. *out* has room for
    # ANSWER_MOST. NULL with *fault* set where the question turns out to be none. *room* is filled if the image has a shadow.
    cdef Layers layers
    cdef MfaAnswer mfa
    cdef uint32_t shadow = DECISION_UNSPECIFIED
    mfa.needed = False
    if e.image == NULL:
        result[0] = implicit(LAYER_UNSPECIFIED, REASON_NO_SNAPSHOT)
    else:
        result[0] = decide(e, request, &layers, &mfa, fault)
        if fault.field != NULL:
            return NULL
        if UNLIKELY(e.image.shadow != NULL):
            shadow = shadow_decide(e, request, room, result, &mfa)
    return write_answer(out, e.image, request, result[0], &mfa, shadow)
