# SPDX-License-Identifier: Apache-2.0
# One request or one batch, from bytes to bytes: decided, timed, counted and recorded. Every listener calls this.

from libc.stdlib cimport realloc

cdef enum:
    FAULT_FIELD_MOST = 320
    FAULT_TEXT_MOST = 512
    KEEP_ALL = 0xFFFFFFFF
    # A record that says so comes from a decision asked for through Python.
    WORKER_PYTHON = 0xFFFF
    # The longest that an answer waits for a place for its record.
    PARK_NANOS = 100000000


# Decisions that are not told yet: their answer may still fail, or wait for a place in the ring.
# A Deferred each, followed by its record, if it has one.
cdef struct Staging:
    uint8_t *data             # owned
    uint64_t size
    uint64_t room
    uint64_t record_bytes     # of *size*, what goes into the ring
    uint32_t count
    bint failed               # there was no memory for one


cdef struct Deferred:
    Outcome outcome
    uint32_t told             # CHECK_*: what the proxy was told; CHECK_COUNT: no proxy asked
    uint32_t shadow           # DECISION_*, if it was asked with what stands in shadow too
    uint32_t size             # of the record that follows; 0: it is not kept


# The reading of the real-time clock that one request or batch sees.
cdef struct ClockReading:
    int64_t seconds           # since the epoch
    uint32_t nanos


# What a thread needs for session tokens. Most of it is memory that is not there before it is used.
cdef struct TokenRoom:
    Opener opener
    Narrow narrow
    uint8_t recorded[MAX_REQUEST_BYTES + 64]
    TokenSlot slots[TOKEN_SLOTS + 1]


# What one thread needs to answer. Confined to it, but for what telemetry and ring let others read.
cdef struct Desk:
    Telemetry telemetry
    Ring ring
    Staging staging
    uint16_t worker
    bint must_record          # no answer without a place for its record
    uint32_t keep[4]          # by decision: the share of 2**32 that is recorded
    uint64_t chance           # state of the generator that picks them, never 0
    TokenRoom *tokens         # owned
    const CheckView *check    # how Envoy is answered; NULL: it is not
    CheckRoom *check_room     # owned
    Request request
    ShadowRoom shadow
    uint8_t answer[ANSWER_MOST]


# The outcome of a call. Confined to one thread, filled anew by each call.
cdef struct Reply:
    uint32_t code             # RPC_*
    uint8_t *answer           # FRAMING bytes, then the message
    uint64_t answer_len       # of the message
    bint answer_owned         # by whoever holds the reply; else it stands in *room*
    bint waits                # the records in *staging* have no place yet
    Staging staging           # owned by whoever holds the reply
    uint32_t field_len        # what is wrong where the code is not OK, and where
    uint32_t text_len
    uint8_t field[FAULT_FIELD_MOST]
    uint8_t text[FAULT_TEXT_MOST]
    uint8_t room[FRAMING + ANSWER_MOST]


# Faults in words.

cdef uint32_t text_clean(const uint8_t *data, uint32_t length, uint8_t *out) noexcept nogil:
    # *data* as UTF-8 whatever it is: what is not becomes U+FFFD. *out* has room for three times as much.
    cdef uint32_t i = 0
    cdef uint32_t size
    cdef uint8_t *end = out
    while i < length:
        size = 1 if data[i] < 0x80 else 2 if data[i] < 0xE0 else 3 if data[i] < 0xF0 else 4
        if i + size <= length and utf8_valid(data + i, size):
            memcpy(end, data + i, size)
            end += size
            i += size
        else:
            memcpy(end, b"\xef\xbf\xbd", 3)
            end += 3
            i += 1
    return <uint32_t>(end - out)


cdef inline uint8_t *write_text(uint8_t *out, const char *text) noexcept nogil:
    cdef size_t size = strlen(text)
    memcpy(out, text, size)
    return out + size


cdef uint32_t fault_field(const Fault *fault, uint8_t *out) noexcept nogil:
    # The path of a field, such as `requests[3].context[aws:SourceIp]`. At most 9 + 4 + 2 + 32 + 2 + 3 * 64 bytes.
    cdef uint8_t *end = out
    if fault.index:
        end = write_text(end, b"requests[")
        end += write_number(fault.index - 1, end)
        end = write_text(end, b"].")
    end = write_text(end, fault.field)
    if fault.key.len and (strcmp(fault.field, b"context") == 0 or strcmp(fault.field, b"override") == 0):
        end = write_text(end, b"[")
        end += text_clean(fault.key.data, min(fault.key.len, 64), end)
        end = write_text(end, b"]")
    return <uint32_t>(end - out)


cdef void reply_fault(Reply *reply, const Fault *fault) noexcept nogil:
    cdef uint8_t *end = reply.text
    reply.code = RPC_INVALID_ARGUMENT
    reply.field_len = fault_field(fault, reply.field)
    end = write_text(end, b"`")
    memcpy(end, reply.field, reply.field_len)
    end = write_text(end + reply.field_len, b"` cannot be used: ")
    end = write_text(end, fault.message)
    reply.text_len = <uint32_t>(end - reply.text)


cdef void reply_text(Reply *reply, uint32_t code, const char *text) noexcept nogil:
    reply.code = code
    reply.field_len = 0
    reply.text_len = <uint32_t>strlen(text)
    memcpy(reply.text, text, reply.text_len)


cdef inline void reply_clear(Reply *reply) noexcept nogil:
    reply.code = RPC_OK
    reply.answer = reply.room
    reply.answer_len = 0
    reply.answer_owned = False
    reply.waits = False
    memset(&reply.staging, 0, sizeof(Staging))
    reply.field_len = 0
    reply.text_len = 0


# Records.

cdef inline bint record_is_kept(Desk *desk, uint32_t decision) noexcept nogil:
    cdef uint32_t keep = desk.keep[decision & 3]
    if desk.ring.data == NULL:
        return False
    if LIKELY(keep == KEEP_ALL):
        return True
    # xorshift64: enough to pick a fair share, and nobody gains by guessing it.
    desk.chance ^= desk.chance << 13
    desk.chance ^= desk.chance >> 7
    desk.chance ^= desk.chance << 17
    if <uint32_t>(desk.chance >> 32) < keep:
        return True
    count_add(&desk.ring.sampled_out, 1)
    return False


cdef Slice request_recorded(Desk *desk, Slice message, const Eval *e) noexcept nogil:
    # INVARIANT: no token is ever recorded. In its place stands the access key id of its session, or a word where it is
    # none of ours.
    cdef Reader reader = reader_of(message)
    cdef uint8_t *end = desk.tokens.recorded
    cdef const uint8_t *start
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        start = reader.here
        # It was read before, so it can be read again.
        if not read_tag(&reader, &field, &wire_type) or not skip_field(&reader, wire_type):
            break
        if field != 2:
            memcpy(end, start, reader.here - start)
            end += reader.here - start
    if desk.request.has_session_token:
        # Last, so that it counts as the token did.
        if e.image != NULL and e.token != NULL:
            end = write_field(end, 2, e.token.access_key_id, TOKEN_ACCESS_KEY_ID_BYTES)
        else:
            end = write_field(end, 2, b"unknown", 7)
    return slice_of(desk.tokens.recorded, <uint32_t>(end - desk.tokens.recorded))


cdef inline uint32_t record_size(const RecordHeader *header) noexcept nogil:
    return (<uint32_t>sizeof(RecordHeader) + header.request_len + header.answer_len + header.note_len + 7) & ~<uint32_t>7


cdef void record_put(
    Ring *ring, RecordHeader *header, const uint8_t *request, const uint8_t *answer, const uint8_t *note
) noexcept nogil:
    # SAFETY: the caller has seen that there is room for header.size bytes.
    cdef uint64_t zeros = 0
    cdef uint64_t place = ring.head
    cdef uint32_t used = <uint32_t>sizeof(RecordHeader) + header.request_len + header.answer_len + header.note_len
    header.sequence = ring.offered
    count_add(&ring.offered, 1)
    ring_copy_in(ring, place, header, sizeof(RecordHeader))
    place += sizeof(RecordHeader)
    ring_copy_in(ring, place, request, header.request_len)
    place += header.request_len
    ring_copy_in(ring, place, answer, header.answer_len)
    place += header.answer_len
    if header.note_len:
        ring_copy_in(ring, place, note, header.note_len)
    ring_copy_in(ring, place + header.note_len, &zeros, header.size - used)
    atomic_put(&ring.head, ring.head + header.size)


cdef inline void ring_drop(Ring *ring) noexcept nogil:
    count_add(&ring.offered, 1)
    count_add(&ring.dropped, 1)


cdef void staging_clear(Staging *staging) noexcept nogil:
    free(staging.data)
    memset(staging, 0, sizeof(Staging))


cdef void staging_add(
    Desk *desk, Outcome result, uint32_t told, uint32_t shadow, RecordHeader *header, const uint8_t *request,
    const uint8_t *answer, const uint8_t *note
) noexcept nogil:
    # *header* NULL: the decision is counted later, but not recorded.
    cdef Staging *staging = &desk.staging
    cdef Deferred deferred
    cdef uint64_t zeros = 0
    cdef uint64_t need
    cdef uint64_t room
    cdef uint8_t *data
    cdef uint32_t used
    deferred.outcome = result
    deferred.told = told
    deferred.shadow = shadow
    deferred.size = 0 if header == NULL else header.size
    staging.count += 1
    need = staging.size + sizeof(Deferred) + deferred.size
    if need > staging.room:
        room = max(need, 2 * staging.room, <uint64_t>4096)
        data = <uint8_t *>realloc(staging.data, room)
        if data == NULL:
            staging.failed = True
            if not desk.must_record:
                decision_count(&desk.telemetry, result, told, shadow)
                if header != NULL:
                    ring_drop(&desk.ring)
            return
        staging.data = data
        staging.room = room
    data = staging.data + staging.size
    memcpy(data, &deferred, sizeof(Deferred))
    data += sizeof(Deferred)
    if header != NULL:
        used = <uint32_t>sizeof(RecordHeader) + header.request_len + header.answer_len + header.note_len
        memcpy(data, header, sizeof(RecordHeader))
        memcpy(data + sizeof(RecordHeader), request, header.request_len)
        memcpy(data + sizeof(RecordHeader) + header.request_len, answer, header.answer_len)
        if header.note_len:
            memcpy(data + used - header.note_len, note, header.note_len)
        memcpy(data + used, &zeros, header.size - used)
        staging.record_bytes += header.size
    staging.size = need


cdef bint staging_commit(Desk *desk, Staging *staging) noexcept nogil:
    # Count and record what was deferred, and empty it. False, and nothing done, where records must have a place and
    # there is none.
    cdef Ring *ring = &desk.ring
    cdef const uint8_t *here = staging.data
    cdef const uint8_t *end = staging.data + staging.size
    cdef Deferred deferred
    cdef RecordHeader header
    if desk.must_record and (staging.failed or (staging.record_bytes and ring_room(ring) < staging.record_bytes)):
        return False
    while here != end:
        memcpy(&deferred, here, sizeof(Deferred))
        here += sizeof(Deferred)
        decision_count(&desk.telemetry, deferred.outcome, deferred.told, deferred.shadow)
        if deferred.size == 0:
            continue
        if ring_room(ring) >= deferred.size:
            memcpy(&header, here, sizeof(RecordHeader))
            record_put(
                ring, &header, here + sizeof(RecordHeader), here + sizeof(RecordHeader) + header.request_len,
                here + sizeof(RecordHeader) + header.request_len + header.answer_len,
            )
        else:
            ring_drop(ring)
        here += deferred.size
    staging_clear(staging)
    return True


cdef inline uint8_t *write_denial(uint8_t *out, uint32_t reason) noexcept nogil:
    # An AuthorizeResponse that denies without having looked.
    out = write_enum(out, 1, DECISION_IMPLICIT_DENY)
    return write_field(out, 3, REASON_WORDS[reason], <uint32_t>strlen(REASON_WORDS[reason]))


cdef bint staging_allows(const Staging *staging) noexcept nogil:
    # Whether the one answer to Envoy that was deferred is an allow; False where nothing of it could be kept.
    cdef Deferred deferred
    if staging.size < sizeof(Deferred):
        return False
    memcpy(&deferred, staging.data, sizeof(Deferred))
    return deferred.told == CHECK_ALLOW


cdef uint64_t staging_refuse(Desk *desk, Staging *staging, uint32_t method, uint8_t *out) noexcept nogil:
    # Instead of answers whose records found no place: as many denials, written to *out*, which has the room that those
    # answers were given. Returns their length.
    cdef uint8_t denial[64]
    cdef uint32_t size = <uint32_t>(write_denial(denial, REASON_AUDIT_UNAVAILABLE) - denial)
    cdef uint32_t told = CHECK_ERROR if method == METHOD_CHECK else CHECK_COUNT
    cdef uint8_t *end = out
    cdef bint is_closed
    cdef uint32_t i
    for i in range(staging.count):
        decision_count(
            &desk.telemetry, implicit(LAYER_UNSPECIFIED, REASON_AUDIT_UNAVAILABLE), told, DECISION_UNSPECIFIED
        )
        ring_drop(&desk.ring)
        if method == METHOD_BATCH_AUTHORIZE:
            end = write_field(end, 1, denial, size)
        elif method == METHOD_CHECK:
            # What is denied anyway stays so: a client can fill a log, and nothing it asks for may pass by that.
            is_closed = not staging_allows(staging)
            end = out + write_refusal(out, desk.check, REASON_AUDIT_UNAVAILABLE, 503, False, is_closed)
        else:
            memcpy(out, denial, size)
            end = out + size
    staging_clear(staging)
    return end - out


cdef void record_or_defer(
    Desk *desk, Outcome result, uint32_t told, uint32_t shadow, RecordHeader *kept, const uint8_t *request,
    const uint8_t *answer, const uint8_t *note
) noexcept nogil:
    # Count a decision and record it, where *kept* is not NULL; what must be recorded and finds no place is deferred.
    if kept != NULL and ring_room(&desk.ring) < kept.size:
        if desk.must_record:
            staging_add(desk, result, told, shadow, kept, request, answer, note)
            return
        ring_drop(&desk.ring)
        kept = NULL
    decision_count(&desk.telemetry, result, told, shadow)
    if kept != NULL:
        record_put(&desk.ring, kept, request, answer, note)


# Answers.

cdef uint8_t *answer_one(
    Desk *desk, const ImageView *image, Slice message, ClockReading now, uint32_t method, uint8_t *out, Fault *fault
) noexcept nogil:
    # AuthorizeRequest bytes to AuthorizeResponse bytes in *out*, which has room for ANSWER_MOST; NULL with *fault* set.
    # A batch defers what it tells until all of it is answered.
    cdef Eval e
    cdef Outcome result
    cdef RecordHeader header
    cdef RecordHeader *kept = NULL
    cdef uint8_t *end
    cdef uint32_t shadow = DECISION_UNSPECIFIED
    cdef uint64_t begun = clock_monotonic()
    cdef uint64_t read
    cdef uint64_t decided
    if not question_read(
        image, &desk.tokens.opener, &desk.tokens.narrow, message, now.seconds, now.nanos, begun, &e, &desk.request, fault
    ):
        return NULL
    read = clock_monotonic()
    end = question_answer(&e, &desk.request, &desk.shadow, out, &result, fault)
    if end == NULL:
        return NULL
    if UNLIKELY(image != NULL and image.shadow != NULL):
        shadow = desk.shadow.outcome.decision
    decided = clock_monotonic()
    histogram_add(&desk.telemetry.reading, read - begun)
    histogram_add(&desk.telemetry.deciding, decided - read)
    if record_is_kept(desk, result.decision):
        kept = &header
        if UNLIKELY(desk.request.token_fields != 0):
            message = request_recorded(desk, message, &e)
        header.worker = desk.worker
        header.method = <uint8_t>method
        header.decision = <uint8_t>result.decision
        header.request_len = message.len
        header.answer_len = <uint32_t>(end - out)
        header.note_len = 0
        header.reserved = 0
        header.size = record_size(&header)
        header.time = now.seconds * NANOS + now.nanos
        header.read_ns = <uint32_t>min(read - begun, <uint64_t>0xFFFFFFFF)
        header.decide_ns = <uint32_t>min(decided - read, <uint64_t>0xFFFFFFFF)
        header.sequence = 0
    if method == METHOD_BATCH_AUTHORIZE:
        staging_add(desk, result, CHECK_COUNT, shadow, kept, message.data, out, NULL)
    else:
        record_or_defer(desk, result, CHECK_COUNT, shadow, kept, message.data, out, NULL)
    return end


cdef void reply_park(Desk *desk, Reply *reply) noexcept nogil:
    reply.waits = True
    reply.staging = desk.staging
    memset(&desk.staging, 0, sizeof(Staging))


cdef void answer_authorize(
    Desk *desk, const ImageView *image, Slice message, ClockReading now, Reply *reply
) noexcept nogil:
    cdef Fault fault
    cdef uint8_t *end
    reply_clear(reply)
    fault_clear(&fault)
    end = answer_one(desk, image, message, now, METHOD_AUTHORIZE, reply.room + FRAMING, &fault)
    if UNLIKELY(end == NULL):
        reply_fault(reply, &fault)
        return
    reply.answer_len = end - (reply.room + FRAMING)
    if UNLIKELY(desk.staging.count != 0):
        reply_park(desk, reply)


cdef bint batch_count(Slice message, uint32_t *count, Fault *fault) noexcept nogil:
    # How many requests a BatchAuthorizeRequest holds: 1 to MAX_BATCH_REQUESTS.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    count[0] = 0
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"requests")
        if field != 1 or wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                return malformed(fault, b"requests")
            continue
        if count[0] >= MAX_BATCH_REQUESTS:
            return fault_set(fault, b"requests", b"there are more than 1000")
        if not read_slice(&reader, &inner):
            return malformed(fault, b"requests")
        count[0] += 1
    if count[0] == 0:
        return fault_set(fault, b"requests", b"there are none")
    return True


cdef uint8_t *batch_answer(
    Desk *desk, const ImageView *image, Slice message, ClockReading now, uint8_t *out, Fault *fault
) noexcept nogil:
    # The answers to a batch that batch_count has read; *out* has room for them.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef uint32_t index = 0
    cdef uint8_t *end
    while reader.here != reader.end:
        read_tag(&reader, &field, &wire_type)
        if field != 1 or wire_type != WIRE_BYTES:
            skip_field(&reader, wire_type)
            continue
        read_slice(&reader, &inner)
        index += 1
        fault.index = index
        end = answer_one(desk, image, inner, now, METHOD_BATCH_AUTHORIZE, desk.answer, fault)
        if end == NULL:
            return NULL
        out = write_field(out, 1, desk.answer, <uint32_t>(end - desk.answer))
    return out


cdef void answer_batch(
    Desk *desk, const ImageView *image, Slice message, ClockReading now, Reply *reply
) noexcept nogil:
    # All of a batch under *image* and at *now*, in order; one malformed request fails it, and nothing is told of it then.
    cdef Fault fault
    cdef uint32_t count
    cdef uint64_t room
    cdef uint8_t *end
    reply_clear(reply)
    fault_clear(&fault)
    if message.len > MAX_BATCH_BYTES:
        fault_set(&fault, b"requests", b"they are longer than 1048576 bytes")
        reply_fault(reply, &fault)
        return
    if not batch_count(message, &count, &fault):
        reply_fault(reply, &fault)
        return
    # An answer repeats its principal and adds a bounded rest.
    room = FRAMING + message.len + <uint64_t>(ANSWER_OVERHEAD + 8) * count
    reply.answer = <uint8_t *>malloc(room)
    if reply.answer == NULL:
        reply_clear(reply)
        reply_text(reply, RPC_RESOURCE_EXHAUSTED, b"there is no memory for the answers")
        return
    reply.answer_owned = True
    end = batch_answer(desk, image, message, now, reply.answer + FRAMING, &fault)
    if end == NULL:
        staging_clear(&desk.staging)
        free(reply.answer)
        reply_clear(reply)
        reply_fault(reply, &fault)
        return
    reply.answer_len = end - (reply.answer + FRAMING)
    count_add(&desk.telemetry.batch_requests, count)
    if not staging_commit(desk, &desk.staging):
        reply_park(desk, reply)


cdef bint desk_set_up(Desk *desk, uint16_t worker) noexcept nogil:
    # A desk of zeros is one that keeps no log. False: no memory.
    desk.worker = worker
    desk.chance = 0x9E3779B97F4A7C15ULL + worker
    desk.tokens = <TokenRoom *>pages_take(sizeof(TokenRoom))
    desk.check_room = <CheckRoom *>pages_take(sizeof(CheckRoom))
    if desk.tokens == NULL or desk.check_room == NULL:
        return False
    desk.tokens.opener.slots = desk.tokens.slots
    return True


cdef bint desk_can_open(Desk *desk) noexcept nogil:
    # Whether the desk has what tokens are opened with, made now if it was not before.
    return desk.tokens.opener.crypto.cipher != NULL or crypto_make(&desk.tokens.opener.crypto)


cdef bint desk_keep_log(Desk *desk, uint64_t ring_bytes, const uint32_t *keep, bint must_record) noexcept nogil:
    # *ring_bytes* is a power of two. False: no memory.
    desk.ring.data = <uint8_t *>malloc(ring_bytes)
    if desk.ring.data == NULL:
        return False
    desk.ring.size = ring_bytes
    memcpy(desk.keep, keep, sizeof(desk.keep))
    desk.must_record = must_record
    return True


cdef void desk_clear(Desk *desk) noexcept nogil:
    staging_clear(&desk.staging)
    pages_drop(desk.check_room, sizeof(CheckRoom))
    desk.check_room = NULL
    free(desk.ring.data)
    desk.ring.data = NULL
    if desk.tokens != NULL:
        crypto_clear(&desk.tokens.opener.crypto)
        pages_drop(desk.tokens, sizeof(TokenRoom))
        desk.tokens = NULL
