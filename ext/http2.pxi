# SPDX-License-Identifier: Apache-2.0
# HTTP/2 and gRPC without sockets: bytes of a connection in, bytes for it out. nghttp2 keeps the state of HTTP/2; what is
# here adds the rules of gRPC, and limits on whatever a peer can make us do or keep. What a call means is told by a
# function of whoever runs the connections.
#
# SPEC: RFC 9113; github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md and doc/statuscodes.md.

cdef extern from "nghttp2/nghttp2.h" nogil:
    ctypedef struct nghttp2_session:
        pass
    ctypedef struct nghttp2_session_callbacks:
        pass
    ctypedef struct nghttp2_option:
        pass
    ctypedef struct nghttp2_frame_hd:
        size_t length
        int32_t stream_id
        uint8_t type
        uint8_t flags
    ctypedef struct nghttp2_headers:
        int cat
    ctypedef struct nghttp2_rst_stream:
        uint32_t error_code
    ctypedef struct nghttp2_ping:
        uint8_t opaque_data[8]
    ctypedef union nghttp2_frame:
        nghttp2_frame_hd hd
        nghttp2_headers headers
        nghttp2_rst_stream rst_stream
        nghttp2_ping ping
    ctypedef struct nghttp2_nv:
        uint8_t *name
        uint8_t *value
        size_t namelen
        size_t valuelen
        uint8_t flags
    ctypedef union nghttp2_data_source:
        int fd
        void *ptr
    ctypedef ssize_t (*nghttp2_data_source_read_callback)(
        nghttp2_session *, int32_t, uint8_t *, size_t, uint32_t *, nghttp2_data_source *, void *) noexcept nogil
    ctypedef struct nghttp2_data_provider:
        nghttp2_data_source source
        nghttp2_data_source_read_callback read_callback
    ctypedef struct nghttp2_settings_entry:
        int32_t settings_id
        uint32_t value
    int NGHTTP2_DATA, NGHTTP2_HEADERS, NGHTTP2_RST_STREAM, NGHTTP2_SETTINGS, NGHTTP2_PING, NGHTTP2_CONTINUATION, NGHTTP2_GOAWAY
    int NGHTTP2_FLAG_NONE, NGHTTP2_FLAG_END_STREAM, NGHTTP2_FLAG_ACK
    int NGHTTP2_HCAT_REQUEST
    int NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_ENHANCE_YOUR_CALM
    int NGHTTP2_NV_FLAG_NONE, NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NO_COPY_VALUE
    int NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_END_STREAM
    int NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE, NGHTTP2_ERR_CALLBACK_FAILURE, NGHTTP2_ERR_NOMEM
    int NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    int NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    int nghttp2_session_callbacks_new(nghttp2_session_callbacks **callbacks)
    void nghttp2_session_callbacks_del(nghttp2_session_callbacks *callbacks)
    void nghttp2_session_callbacks_set_on_begin_frame_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_begin_headers_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_header_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_frame_recv_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_frame_send_callback(nghttp2_session_callbacks *, void *)
    void nghttp2_session_callbacks_set_on_stream_close_callback(nghttp2_session_callbacks *, void *)
    int nghttp2_option_new(nghttp2_option **option)
    void nghttp2_option_del(nghttp2_option *option)
    void nghttp2_option_set_no_closed_streams(nghttp2_option *option, int value)
    void nghttp2_option_set_max_outbound_ack(nghttp2_option *option, size_t value)
    int nghttp2_session_server_new2(
        nghttp2_session **, const nghttp2_session_callbacks *, void *user, const nghttp2_option *)
    void nghttp2_session_del(nghttp2_session *session)
    ssize_t nghttp2_session_mem_recv(nghttp2_session *session, const uint8_t *data, size_t length)
    ssize_t nghttp2_session_mem_send(nghttp2_session *session, const uint8_t **data)
    int nghttp2_session_want_read(nghttp2_session *session)
    int nghttp2_session_want_write(nghttp2_session *session)
    void *nghttp2_session_get_stream_user_data(nghttp2_session *session, int32_t stream_id)
    int nghttp2_session_set_stream_user_data(nghttp2_session *session, int32_t stream_id, void *data)
    int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t flags, int32_t stream_id, int32_t size)
    int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session *session)
    int nghttp2_submit_settings(nghttp2_session *, uint8_t flags, const nghttp2_settings_entry *, size_t count)
    int nghttp2_submit_response(
        nghttp2_session *, int32_t stream_id, const nghttp2_nv *, size_t count, const nghttp2_data_provider *)
    int nghttp2_submit_trailer(nghttp2_session *, int32_t stream_id, const nghttp2_nv *, size_t count)
    int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t flags, int32_t stream_id, uint32_t code)
    int nghttp2_submit_shutdown_notice(nghttp2_session *session)
    int nghttp2_submit_goaway(
        nghttp2_session *, uint8_t flags, int32_t last_stream_id, uint32_t code, const uint8_t *data, size_t length)
    int nghttp2_submit_ping(nghttp2_session *, uint8_t flags, const uint8_t *data)

cdef extern from *:
    """
    /* A stream that is to spare stays in its slab, where the address sanitizer would not miss it. */
    #ifdef __SANITIZE_ADDRESS__
    #include <sanitizer/asan_interface.h>
    #define memory_hide(place, size) ASAN_POISON_MEMORY_REGION(place, size)
    #define memory_show(place, size) ASAN_UNPOISON_MEMORY_REGION(place, size)
    #else
    #define memory_hide(place, size) ((void)0)
    #define memory_show(place, size) ((void)0)
    #endif
    /* setup.py looks for what the installed header offers. Where it does not, our own counters stand alone. */
    static inline void h2_option_set_newer(nghttp2_option *option, uint64_t burst, uint64_t rate, size_t continuations) {
        (void)option; (void)burst; (void)rate; (void)continuations;
    #ifdef HAVE_NGHTTP2_OPTION_SET_STREAM_RESET_RATE_LIMIT
        nghttp2_option_set_stream_reset_rate_limit(option, burst, rate);
    #endif
    #ifdef HAVE_NGHTTP2_OPTION_SET_MAX_CONTINUATIONS
        nghttp2_option_set_max_continuations(option, continuations);
    #endif
    #ifdef HAVE_NGHTTP2_OPTION_SET_GLITCH_RATE_LIMIT
        nghttp2_option_set_glitch_rate_limit(option, burst, rate);
    #endif
    }
    #define H2_NAME(text) {(uint8_t *)text, NULL, sizeof(text) - 1, 0, \
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}
    #define H2_FIELD(text, content) {(uint8_t *)text, (uint8_t *)content, sizeof(text) - 1, sizeof(content) - 1, \
        NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}
    /* Constant header fields; nghttp2 does not write to them. */
    static nghttp2_nv H2_ANSWER[] = {H2_FIELD(":status", "200"), H2_FIELD("content-type", "application/grpc")};
    static nghttp2_nv H2_TRAILER[] = {H2_FIELD("grpc-status", "0")};
    static nghttp2_nv H2_NOT_POST[] = {H2_FIELD(":status", "405"), H2_FIELD("allow", "POST")};
    static nghttp2_nv H2_NOT_GRPC[] = {H2_FIELD(":status", "415")};
    """
    void memory_hide(void *place, size_t size) nogil
    void memory_show(void *place, size_t size) nogil
    void h2_option_set_newer(nghttp2_option *option, uint64_t burst, uint64_t rate, size_t continuations) nogil
    nghttp2_nv H2_ANSWER[2]
    nghttp2_nv H2_TRAILER[1]
    nghttp2_nv H2_NOT_POST[2]
    nghttp2_nv H2_NOT_GRPC[1]

cdef enum:
    # What a stream holds without asking for memory; nearly all requests and answers fit.
    STREAM_MESSAGE = 2048
    STREAM_ANSWER = 1536
    # Largest message: a batch, with room for what a newer client may add.
    MESSAGE_MOST = MAX_BATCH_BYTES + 4096
    STREAMS_A_SLAB = 32
    PREFACE = 24
    FRAME_HEAD = 9
    # CONTINUATION frames of one header block.
    CONTINUATIONS_MOST = 8
    # Strikes before too many PINGs end a connection, as in gRPC.
    PING_STRIKES = 2
    # Control frames that each call pays for: window updates, acknowledgements, a PING to measure the bandwidth.
    CONTROL_A_CALL = 8
    WINDOW_STREAM = 256 * 1024
    WINDOW_CONNECTION = 1024 * 1024
    # How long the peer has to acknowledge that we are going away before it is told for good.
    GOAWAY_NANOS = 1000000000
    SENT_MOST = 512
    # Facts of a stream's header list.
    SEEN_POST = 1
    SEEN_GRPC = 2
    SEEN_TRAILERS = 4
    SEEN_COMPRESSION = 8      # an encoding other than identity
    SEEN_BAD_TIMEOUT = 16
    SEEN_BAD_TE = 32
    SEEN_TOO_LARGE = 64


# Limits of the listener; times in nanoseconds. Set before the first connection, then constant.
cdef struct Limits:
    uint64_t connections      # of the listener
    uint64_t streams          # of a connection
    uint64_t worker_streams   # of a worker
    uint64_t header_bytes     # of a header list, counted as RFC 9113, section 6.5.2
    uint64_t message_memory   # of a worker, for messages that do not fit into their stream
    uint64_t idle
    uint64_t handshake
    uint64_t slow_request
    uint64_t slow_reader
    uint64_t reset_burst      # streams reset at once, in each direction, and what a second gives back
    uint64_t reset_rate
    uint64_t control_burst    # frames without a request, likewise
    uint64_t control_rate
    uint64_t ping_interval    # between PINGs with no call in between


# A limit on events: so many at once, and so many a second.
cdef struct Bucket:
    uint64_t left             # in billionths of an event
    uint64_t filled_at


# One call. Belongs to its connection; its memory to the worker's slabs.
cdef struct Stream:
    Stream *before            # of the same connection, older
    Stream *after
    int32_t id
    uint32_t method           # METHOD_*
    uint32_t seen             # SEEN_*
    uint32_t header_bytes
    bint has_ended            # the request is there, or no more of it is wanted
    bint is_answered          # a response was handed to nghttp2
    bint is_parked            # the answer waits for a place for its record
    bint was_late             # its answer was not taken in time
    uint32_t code             # RPC_* it was answered with
    uint64_t arrived          # monotonic, as all times here
    uint64_t answered
    uint64_t deadline         # 0: none
    uint8_t *message          # prefix and message; own_message or owned
    uint64_t message_len
    uint64_t message_room
    uint8_t *answer           # prefix and message; own_answer or owned
    uint64_t answer_len
    uint64_t answer_sent
    uint64_t answer_charged   # of message_memory
    Staging staging           # records of a parked answer
    uint8_t own_message[STREAM_MESSAGE]
    uint8_t own_answer[STREAM_ANSWER]


# One connection, seen from HTTP/2.
cdef struct Connection:
    Http2 *http2
    nghttp2_session *session  # owned
    Stream *oldest
    Stream *youngest
    Stream *current           # the one that was named last
    uint32_t streams
    uint32_t frame_left       # bytes to come of the frame under way, or of the preface
    uint32_t head_len
    uint8_t head[FRAME_HEAD]  # of the next frame, as far as it is there
    uint32_t continuations    # of the header block under way
    uint32_t ping_strikes
    bint has_settings         # the preface is complete
    bint has_peer_left        # it has said goodbye
    bint is_ending            # a limit was passed or a rule broken: goodbye is on its way
    bint is_draining
    bint has_said_goodbye     # with the last stream that will be answered
    bint answered_since_ping
    uint32_t reason           # CLOSE_* where it ends by our will
    uint64_t opened
    uint64_t active           # when a stream was last open
    uint64_t drained
    uint64_t last_ping
    uint64_t calls_credited   # calls that have paid for control frames
    Bucket resets_received
    Bucket resets_sent
    Bucket controls


ctypedef void (*CallHandler)(void *owner, uint32_t method, Slice message, Reply *reply) noexcept nogil
ctypedef bint (*RefusalHandler)(void *owner, uint32_t method, uint32_t code, bint too_large, Reply *reply) noexcept nogil
ctypedef bint (*UnparkHandler)(void *owner, Stream *stream, bint too_late) noexcept nogil


# What all connections of one worker share. Confined to its thread.
cdef struct Http2:
    const Limits *limits
    Telemetry *telemetry
    void *owner
    CallHandler answer_call
    RefusalHandler refuse_call  # whether there is an answer to a call that fails, in place of a status
    UnparkHandler unpark      # whether the records of a parked stream have found a place, or it is *too_late*
    nghttp2_session_callbacks *callbacks
    nghttp2_option *option
    uint64_t now              # monotonic, read when the thread woke up
    Stream *spare             # linked by `after`
    void *slabs               # owned, each linked by its first word
    uint64_t streams          # open, of all connections
    uint64_t parked
    uint64_t message_memory
    uint32_t sent             # answers that are on their way to the socket since it was last written
    uint64_t sent_arrived[SENT_MOST]
    Reply reply


cdef inline bint bucket_take(Bucket *bucket, uint64_t now, uint64_t burst, uint64_t rate) noexcept nogil:
    # Whether the event is within the limit. *filled_at* of 0 is a bucket that was never used.
    cdef uint64_t most = burst * NANOS
    cdef uint64_t passed = min(now - bucket.filled_at, <uint64_t>60 * NANOS)
    if bucket.filled_at == 0:
        bucket.left = most
    else:
        bucket.left = min(most, bucket.left + passed * rate)
    bucket.filled_at = now
    if bucket.left < NANOS:
        return False
    bucket.left -= NANOS
    return True


# Streams.

cdef inline void stream_hide(Stream *stream) noexcept nogil:
    # From the sanitizer, all but the links.
    memory_hide(&stream.id, sizeof(Stream) - <size_t>(<uint8_t *>&stream.id - <uint8_t *>stream))


cdef Stream *stream_open(Connection *connection, int32_t id) noexcept nogil:
    # NULL: there are too many, or there is no memory.
    cdef Http2 *http2 = connection.http2
    cdef Stream *stream = http2.spare
    cdef void **slab
    cdef uint32_t i
    if http2.streams >= http2.limits.worker_streams:
        return NULL
    if stream == NULL:
        slab = <void **>malloc(sizeof(void *) + STREAMS_A_SLAB * sizeof(Stream))
        if slab == NULL:
            return NULL
        slab[0] = http2.slabs
        http2.slabs = slab
        stream = <Stream *>(slab + 1)
        for i in range(STREAMS_A_SLAB):
            stream[i].after = http2.spare
            http2.spare = &stream[i]
            stream_hide(http2.spare)
        stream = http2.spare
    http2.spare = stream.after
    memory_show(stream, sizeof(Stream))
    # Only the rooms at the end are left as they are.
    memset(stream, 0, <size_t>(&stream.own_message[0] - <uint8_t *>stream))
    stream.id = id
    stream.arrived = http2.now
    stream.message = stream.own_message
    stream.message_room = STREAM_MESSAGE
    stream.before = connection.youngest
    if connection.youngest != NULL:
        connection.youngest.after = stream
    else:
        connection.oldest = stream
    connection.youngest = stream
    connection.current = stream
    connection.streams += 1
    http2.streams += 1
    count_add(&http2.telemetry.streams, 1)
    return stream


cdef void stream_drop_message(Http2 *http2, Stream *stream) noexcept nogil:
    if stream.message != stream.own_message:
        http2.message_memory -= stream.message_room
        free(stream.message)
        stream.message = stream.own_message
        stream.message_room = STREAM_MESSAGE
    stream.message_len = 0


cdef void stream_close(Connection *connection, Stream *stream) noexcept nogil:
    cdef Http2 *http2 = connection.http2
    stream_drop_message(http2, stream)
    if stream.is_parked:
        # Its answer will never leave.
        http2.parked -= 1
        http2.unpark(http2.owner, stream, True)
    if stream.answer != NULL and stream.answer != stream.own_answer:
        free(stream.answer)
    http2.message_memory -= stream.answer_charged
    if stream.before != NULL:
        stream.before.after = stream.after
    else:
        connection.oldest = stream.after
    if stream.after != NULL:
        stream.after.before = stream.before
    else:
        connection.youngest = stream.before
    if connection.current == stream:
        connection.current = NULL
    connection.streams -= 1
    connection.active = http2.now
    http2.streams -= 1
    count_add(&http2.telemetry.streams, <uint64_t>-1)
    stream.after = http2.spare
    http2.spare = stream
    stream_hide(stream)


cdef inline Stream *stream_find(Connection *connection, int32_t id) noexcept nogil:
    # NULL: one that was refused before it was opened.
    if connection.current != NULL and connection.current.id == id:
        return connection.current
    connection.current = <Stream *>nghttp2_session_get_stream_user_data(connection.session, id)
    return connection.current


# Endings.

cdef void connection_end(Connection *connection, uint32_t reason, uint32_t limit, const char *why) noexcept nogil:
    # Say goodbye for having passed a limit.
    if connection.is_ending:
        return
    connection.is_ending = True
    connection.reason = reason
    count_add(&connection.http2.telemetry.limits[limit], 1)
    nghttp2_submit_goaway(
        connection.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(connection.session),
        NGHTTP2_ENHANCE_YOUR_CALM, <const uint8_t *>why, strlen(why)
    )


cdef inline int connection_goes_on(const Connection *connection) noexcept nogil:
    # What a callback returns. Once it is over, nothing that has arrived is looked at any more, lest the library has more
    # to say than our goodbye did. SPEC: RFC 9113, section 6.8: a later GOAWAY takes nothing back.
    return NGHTTP2_ERR_CALLBACK_FAILURE if connection.is_ending else 0


cdef void connection_drain(Connection *connection, uint32_t reason) noexcept nogil:
    # Tell the peer that we are going away; calls under way and those it sends before it knows are answered.
    # SPEC: RFC 9113, section 6.8.
    if connection.is_draining or connection.is_ending:
        return
    connection.is_draining = True
    connection.reason = reason
    connection.drained = connection.http2.now
    nghttp2_submit_shutdown_notice(connection.session)
    # Once this comes back, everything that was sent in ignorance has arrived.
    nghttp2_submit_ping(connection.session, NGHTTP2_FLAG_NONE, <const uint8_t *>b"goodbye.")


cdef void connection_say_goodbye(Connection *connection) noexcept nogil:
    if connection.has_said_goodbye or connection.is_ending:
        return
    connection.has_said_goodbye = True
    nghttp2_submit_goaway(
        connection.session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(connection.session),
        NGHTTP2_NO_ERROR, NULL, 0
    )


cdef void control_spend(Connection *connection) noexcept nogil:
    # A frame that is no part of a call; calls give some back.
    cdef const Limits *limits = connection.http2.limits
    cdef uint64_t credit = connection.calls_credited * CONTROL_A_CALL * NANOS
    connection.calls_credited = 0
    connection.controls.left = min(limits.control_burst * NANOS, connection.controls.left + credit)
    if not bucket_take(&connection.controls, connection.http2.now, limits.control_burst, limits.control_rate):
        connection_end(connection, CLOSE_CONTROL_FRAMES, LIMIT_CONTROL_FRAMES, b"too_many_control_frames")


# Answers.

cdef ssize_t h2_read_answer(
    nghttp2_session *session, int32_t id, uint8_t *out, size_t most, uint32_t *flags, nghttp2_data_source *source, void *user
) noexcept nogil:
    cdef Stream *stream = <Stream *>source.ptr
    cdef uint64_t size = min(<uint64_t>most, stream.answer_len - stream.answer_sent)
    memcpy(out, stream.answer + stream.answer_sent, size)
    stream.answer_sent += size
    if stream.answer_sent == stream.answer_len:
        flags[0] |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM
        if nghttp2_submit_trailer(session, id, H2_TRAILER, 1) != 0:
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return size


cdef void stream_send_answer(Connection *connection, Stream *stream) noexcept nogil:
    cdef nghttp2_data_provider provider
    cdef uint32_t length = <uint32_t>(stream.answer_len - FRAMING)
    stream.is_answered = True
    stream.answered = connection.http2.now
    connection.answered_since_ping = True
    connection.calls_credited += 1
    count_add(&connection.http2.telemetry.rpcs[stream.method][RPC_OK], 1)
    # Not compressed; the length in network order.
    stream.answer[0] = 0
    stream.answer[1] = <uint8_t>(length >> 24)
    stream.answer[2] = <uint8_t>(length >> 16)
    stream.answer[3] = <uint8_t>(length >> 8)
    stream.answer[4] = <uint8_t>length
    provider.source.ptr = stream
    provider.read_callback = h2_read_answer
    # Fails only for want of memory, and the next call to nghttp2 says so again.
    nghttp2_submit_response(connection.session, stream.id, H2_ANSWER, 2, &provider)


cdef uint32_t percent_encode(const uint8_t *text, uint32_t length, uint8_t *out) noexcept nogil:
    # SPEC: PROTOCOL-HTTP2.md, Status-Message. *out* has room for three times as much.
    cdef const char *digits = b"0123456789ABCDEF"
    cdef uint8_t *end = out
    cdef uint32_t i
    for i in range(length):
        if 0x20 <= text[i] <= 0x7E and text[i] != 37:
            end[0] = text[i]
            end += 1
        else:
            end[0] = 37
            end[1] = digits[text[i] >> 4]
            end[2] = digits[text[i] & 15]
            end += 3
    return <uint32_t>(end - out)


cdef uint32_t write_status(const Reply *reply, uint8_t *out) noexcept nogil:
    # A google.rpc.Status with a google.rpc.BadRequest that names the field. *out* has room for 2 KiB.
    cdef const char *kind = b"type.googleapis.com/google.rpc.BadRequest"
    cdef uint8_t violation[FAULT_FIELD_MOST + FAULT_TEXT_MOST + 16]
    cdef uint8_t violations[FAULT_FIELD_MOST + FAULT_TEXT_MOST + 32]
    cdef uint8_t packed_[FAULT_FIELD_MOST + FAULT_TEXT_MOST + 96]
    cdef uint8_t *end = write_field(violation, 1, reply.field, reply.field_len)
    end = write_field(end, 2, reply.text, reply.text_len)
    end = write_field(violations, 1, violation, <uint32_t>(end - violation))
    cdef uint32_t size = <uint32_t>(end - violations)
    end = write_field(packed_, 1, kind, <uint32_t>strlen(kind))
    end = write_field(end, 2, violations, size)
    size = <uint32_t>(end - packed_)
    end = write_enum(out, 1, reply.code)
    end = write_field(end, 2, reply.text, reply.text_len)
    end = write_field(end, 3, packed_, size)
    return <uint32_t>(end - out)


cdef inline nghttp2_nv h2_field(const char *name, const uint8_t *value, size_t length) noexcept nogil:
    cdef nghttp2_nv field
    field.name = <uint8_t *>name
    field.namelen = strlen(name)
    field.value = <uint8_t *>value
    field.valuelen = length
    field.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME
    return field


cdef void stream_refuse(Connection *connection, Stream *stream, const Reply *reply) noexcept nogil:
    # A response of trailers only. SPEC: PROTOCOL-HTTP2.md, Responses.
    cdef nghttp2_nv fields[6]
    cdef uint8_t code[4]
    cdef uint8_t text[3 * FAULT_TEXT_MOST]
    cdef uint8_t status[2048]
    cdef uint8_t details[2736]
    cdef size_t count = 4
    stream.is_answered = True
    stream.answered = connection.http2.now
    stream.code = reply.code
    connection.answered_since_ping = True
    stream_drop_message(connection.http2, stream)
    count_add(&connection.http2.telemetry.rpcs[stream.method][reply.code], 1)
    fields[0] = H2_ANSWER[0]
    fields[1] = H2_ANSWER[1]
    fields[2] = h2_field(b"grpc-status", code, write_number(reply.code, code))
    fields[3] = h2_field(b"grpc-message", text, percent_encode(reply.text, reply.text_len, text))
    if reply.code == RPC_UNIMPLEMENTED:
        # SPEC: doc/compression.md: says what would have been understood.
        fields[count] = h2_field(b"grpc-accept-encoding", <const uint8_t *>b"identity", 8)
        count += 1
    if reply.field_len:
        fields[count] = h2_field(
            b"grpc-status-details-bin", details, base64_write(status, write_status(reply, status), BASE64, details)
        )
        count += 1
    nghttp2_submit_response(connection.session, stream.id, fields, count, NULL)


cdef void stream_fail_as(
    Connection *connection, Stream *stream, uint32_t code, const char *text, bint too_large
) noexcept nogil:
    cdef Http2 *http2 = connection.http2
    cdef Reply *reply = &http2.reply
    if not http2.refuse_call(http2.owner, stream.method, code, too_large, reply):
        reply_text(reply, code, text)
        stream_refuse(connection, stream, reply)
        return
    # SAFETY: such an answer is no longer than a stream's own room.
    stream_drop_message(http2, stream)
    stream.answer = stream.own_answer
    stream.answer_len = FRAMING + reply.answer_len
    memcpy(stream.answer + FRAMING, reply.answer + FRAMING, reply.answer_len)
    stream_send_answer(connection, stream)


cdef void stream_fail(Connection *connection, Stream *stream, uint32_t code, const char *text) noexcept nogil:
    stream_fail_as(connection, stream, code, text, False)


cdef void stream_fail_large(Connection *connection, Stream *stream, const char *text) noexcept nogil:
    stream_fail_as(connection, stream, RPC_RESOURCE_EXHAUSTED, text, True)


cdef void stream_refuse_http(Connection *connection, Stream *stream, nghttp2_nv *fields, size_t count) noexcept nogil:
    # To a peer that does not speak gRPC.
    stream.is_answered = True
    stream.answered = connection.http2.now
    stream.code = RPC_UNKNOWN
    stream_drop_message(connection.http2, stream)
    count_add(&connection.http2.telemetry.rpcs[stream.method][RPC_UNKNOWN], 1)
    nghttp2_submit_response(connection.session, stream.id, fields, count, NULL)


cdef void stream_answer(Connection *connection, Stream *stream) noexcept nogil:
    # The request is there as a whole.
    cdef Http2 *http2 = connection.http2
    cdef Reply *reply = &http2.reply
    cdef uint64_t size
    if stream.deadline and http2.now >= stream.deadline:
        stream_fail(connection, stream, RPC_DEADLINE_EXCEEDED, b"the deadline passed before the request was there")
        return
    reply_clear(reply)
    http2.answer_call(
        http2.owner, stream.method,
        slice_of(stream.message + FRAMING, <uint32_t>(stream.message_len - FRAMING)), reply
    )
    if UNLIKELY(reply.code != RPC_OK):
        stream_refuse(connection, stream, reply)
        return
    stream_drop_message(http2, stream)
    size = FRAMING + reply.answer_len
    stream.answer_len = size
    if reply.answer_owned:
        stream.answer = reply.answer
    elif size <= STREAM_ANSWER:
        stream.answer = stream.own_answer
        memcpy(stream.answer + FRAMING, reply.answer + FRAMING, reply.answer_len)
    else:
        stream.answer = <uint8_t *>malloc(size)
        if stream.answer == NULL:
            stream.answer_len = 0
            staging_clear(&reply.staging)
            stream_fail(connection, stream, RPC_RESOURCE_EXHAUSTED, b"there is no memory for the answer")
            return
        memcpy(stream.answer + FRAMING, reply.answer + FRAMING, reply.answer_len)
    if stream.answer != stream.own_answer:
        stream.answer_charged = size
        http2.message_memory += size
    if UNLIKELY(reply.waits):
        # Its records have no place yet. This stream alone waits.
        stream.is_parked = True
        stream.answered = http2.now
        stream.staging = reply.staging
        http2.parked += 1
        count_add(&http2.telemetry.parked, 1)
        return
    stream_send_answer(connection, stream)


# Requests.

cdef uint64_t timeout_nanos(const uint8_t *value, size_t length) noexcept nogil:
    # A grpc-timeout; 0 for one that is malformed. SPEC: PROTOCOL-HTTP2.md, Timeout: at most eight digits and a unit.
    cdef uint64_t number = 0
    cdef uint64_t unit
    cdef size_t i
    if length < 2 or length > 9:
        return 0
    for i in range(length - 1):
        if value[i] < 48 or value[i] > 57:
            return 0
        number = 10 * number + (value[i] - 48)
    if value[length - 1] == 72:  # H
        unit = <uint64_t>3600 * NANOS
    elif value[length - 1] == 77:  # M
        unit = <uint64_t>60 * NANOS
    elif value[length - 1] == 83:  # S
        unit = NANOS
    elif value[length - 1] == 109:  # m
        unit = 1000000
    elif value[length - 1] == 117:  # u
        unit = 1000
    elif value[length - 1] == 110:  # n
        unit = 1
    else:
        return 0
    # The longest is 11,000 years; a hundred do.
    if number > <uint64_t>100 * 365 * 86400 * NANOS // unit:
        number = <uint64_t>100 * 365 * 86400 * NANOS // unit
    return max(number * unit, <uint64_t>1)


cdef inline bint text_is(const uint8_t *text, size_t length, const char *want, size_t want_length) noexcept nogil:
    return length == want_length and memcmp(text, want, want_length) == 0


cdef inline uint32_t method_find(const uint8_t *path, size_t length) noexcept nogil:
    # One row for each method of the data listener.
    if text_is(path, length, b"/sidecar.v1.AuthorizationService/Authorize", 42):
        return METHOD_AUTHORIZE
    if text_is(path, length, b"/sidecar.v1.AuthorizationService/BatchAuthorize", 47):
        return METHOD_BATCH_AUTHORIZE
    if text_is(path, length, b"/envoy.service.auth.v3.Authorization/Check", 42):
        return METHOD_CHECK
    if text_is(path, length, b"/grpc.health.v1.Health/Check", 28):
        return METHOD_HEALTH_CHECK
    return METHOD_UNKNOWN


cdef int h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Http2 *http2 = connection.http2
    if header.type == NGHTTP2_HEADERS:
        connection.continuations = 0
        if (
            connection.streams >= http2.limits.streams
            and header.stream_id > nghttp2_session_get_last_proc_stream_id(session)
        ):
            # The library refuses the stream, or ends the connection of a peer that knows the limit.
            count_add(&http2.telemetry.limits[LIMIT_STREAMS], 1)
    elif header.type == NGHTTP2_CONTINUATION:
        connection.continuations += 1
        if connection.continuations > CONTINUATIONS_MOST:
            connection_end(connection, CLOSE_CONTINUATIONS, LIMIT_CONTINUATIONS, b"too_many_continuations")
    elif header.type != NGHTTP2_DATA and header.type != NGHTTP2_RST_STREAM:
        control_spend(connection)
    return connection_goes_on(connection)


cdef int h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Stream *stream
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        stream_find(connection, frame.hd.stream_id)
        return 0
    if connection.has_said_goodbye:
        # The peer is told that this one was not looked at.
        return 0
    stream = stream_open(connection, frame.hd.stream_id)
    if stream == NULL:
        count_add(&connection.http2.telemetry.limits[LIMIT_STREAMS], 1)
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_REFUSED_STREAM)
        return 0
    nghttp2_session_set_stream_user_data(session, frame.hd.stream_id, stream)
    return 0


cdef int h2_on_header(
    nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
    const uint8_t *value, size_t value_len, uint8_t flags, void *user
) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Stream *stream = stream_find(connection, frame.hd.stream_id)
    cdef uint64_t most = connection.http2.limits.header_bytes
    if stream == NULL:
        return 0
    stream.header_bytes += <uint32_t>(name_len + value_len + 32)
    if UNLIKELY(stream.header_bytes > most):
        if stream.header_bytes > 8 * most:
            connection_end(connection, CLOSE_HEADER_BYTES, LIMIT_HEADER_BYTES, b"header_list_too_large")
            return connection_goes_on(connection)
        stream.seen |= SEEN_TOO_LARGE
        return 0
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        return 0
    if name_len == 5:
        if memcmp(name, b":path", 5) == 0:
            stream.method = method_find(value, value_len)
    elif name_len == 7:
        if memcmp(name, b":method", 7) == 0 and text_is(value, value_len, b"POST", 4):
            stream.seen |= SEEN_POST
    elif name_len == 2:
        if memcmp(name, b"te", 2) == 0:
            stream.seen |= SEEN_TRAILERS if text_is(value, value_len, b"trailers", 8) else SEEN_BAD_TE
    elif name_len == 12:
        if memcmp(name, b"content-type", 12) == 0:
            # SPEC: PROTOCOL-HTTP2.md, Content-Type: application/grpc, alone or with a suffix of its own.
            if (
                value_len >= 16 and memcmp(value, b"application/grpc", 16) == 0
                and (value_len == 16 or value[16] == 43 or value[16] == 59)
            ):
                stream.seen |= SEEN_GRPC
        elif memcmp(name, b"grpc-timeout", 12) == 0:
            stream.deadline = timeout_nanos(value, value_len)
            if stream.deadline == 0:
                stream.seen |= SEEN_BAD_TIMEOUT
            else:
                # A time-out of nothing has passed before anything is done.
                stream.deadline += stream.arrived - 1
    elif name_len == 13:
        if memcmp(name, b"grpc-encoding", 13) == 0 and not text_is(value, value_len, b"identity", 8):
            stream.seen |= SEEN_COMPRESSION
    return 0


cdef void stream_refuse_headers(Connection *connection, Stream *stream) noexcept nogil:
    count_add(&connection.http2.telemetry.limits[LIMIT_HEADER_BYTES], 1)
    stream_fail_large(connection, stream, b"the header list is too large")


cdef void stream_headers_end(Connection *connection, Stream *stream) noexcept nogil:
    # What can be refused before the message is read.
    if stream.seen & SEEN_TOO_LARGE:
        stream_refuse_headers(connection, stream)
    elif not stream.seen & SEEN_POST:
        stream_refuse_http(connection, stream, H2_NOT_POST, 2)
    elif not stream.seen & SEEN_GRPC:
        stream_refuse_http(connection, stream, H2_NOT_GRPC, 1)
    elif stream.method == METHOD_UNKNOWN:
        stream_fail(connection, stream, RPC_UNIMPLEMENTED, b"there is no such method here")
    elif stream.seen & SEEN_BAD_TE or not stream.seen & SEEN_TRAILERS:
        # Something on the way would lose the status of a call that failed.
        stream_fail(connection, stream, RPC_INVALID_ARGUMENT, b"`te: trailers` is missing")
    elif stream.seen & SEEN_BAD_TIMEOUT:
        stream_fail(connection, stream, RPC_INVALID_ARGUMENT, b"`grpc-timeout` is malformed")


cdef void stream_take(Connection *connection, Stream *stream, const uint8_t *data, size_t length) noexcept nogil:
    # A piece of the message; its size is looked at as soon as it is known, and memory taken for what is there, not for
    # what was announced.
    cdef Http2 *http2 = connection.http2
    cdef uint64_t room
    cdef uint64_t size
    cdef uint8_t *message
    if stream.message_len + length > stream.message_room:
        if stream.message_len + length > FRAMING + <uint64_t>MESSAGE_MOST:
            count_add(&http2.telemetry.limits[LIMIT_MESSAGE_BYTES], 1)
            stream_fail_large(connection, stream, b"the message is larger than 1052672 bytes")
            return
        room = min(max(2 * stream.message_room, stream.message_len + length), FRAMING + <uint64_t>MESSAGE_MOST)
        if http2.message_memory + room > http2.limits.message_memory:
            count_add(&http2.telemetry.limits[LIMIT_MESSAGE_MEMORY], 1)
            stream_fail(connection, stream, RPC_RESOURCE_EXHAUSTED, b"there are too many large messages under way")
            return
        message = <uint8_t *>malloc(room)
        if message == NULL:
            stream_fail(connection, stream, RPC_RESOURCE_EXHAUSTED, b"there is no memory for the message")
            return
        memcpy(message, stream.message, stream.message_len)
        size = stream.message_len
        stream_drop_message(http2, stream)
        http2.message_memory += room
        stream.message = message
        stream.message_len = size
        stream.message_room = room
    memcpy(stream.message + stream.message_len, data, length)
    stream.message_len += length
    if stream.message_len >= FRAMING and stream.message_len - length < FRAMING:
        message = stream.message
        size = <uint64_t>message[1] << 24 | <uint64_t>message[2] << 16 | <uint64_t>message[3] << 8 | message[4]
        if message[0] == 1 and stream.seen & SEEN_COMPRESSION:
            # SPEC: doc/compression.md: a method of compression that the server does not know.
            stream_fail(connection, stream, RPC_UNIMPLEMENTED, b"compressed messages are not read here")
        elif message[0] != 0:
            stream_fail(connection, stream, RPC_INTERNAL, b"the message has a compressed flag without an encoding")
        elif size > MESSAGE_MOST:
            count_add(&http2.telemetry.limits[LIMIT_MESSAGE_BYTES], 1)
            stream_fail_large(connection, stream, b"the message is larger than 1052672 bytes")


cdef void stream_request_end(Connection *connection, Stream *stream) noexcept nogil:
    # The peer has sent all that it wants to.
    cdef uint64_t size
    cdef const uint8_t *message = stream.message
    stream.has_ended = True
    if stream.is_answered:
        return
    if UNLIKELY(stream.seen & SEEN_TOO_LARGE):
        # By trailers: headers alone would have been refused before.
        stream_refuse_headers(connection, stream)
        return
    # SPEC: doc/statuscodes.md: one request, no more and no less.
    if stream.message_len == 0:
        stream_fail(connection, stream, RPC_UNIMPLEMENTED, b"the call holds no message")
        return
    if stream.message_len < FRAMING:
        stream_fail(connection, stream, RPC_INTERNAL, b"the message is cut off")
        return
    size = <uint64_t>message[1] << 24 | <uint64_t>message[2] << 16 | <uint64_t>message[3] << 8 | message[4]
    if LIKELY(stream.message_len == FRAMING + size):
        stream_answer(connection, stream)
    elif stream.message_len < FRAMING + size:
        stream_fail(connection, stream, RPC_INTERNAL, b"the message is cut off")
    else:
        stream_fail(connection, stream, RPC_UNIMPLEMENTED, b"the call holds more than one message")


cdef int h2_on_data(
    nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t length, void *user
) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Stream *stream = stream_find(connection, id)
    if stream != NULL and not stream.is_answered and not connection.is_ending:
        stream_take(connection, stream, data, length)
    return 0


cdef int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Http2 *http2 = connection.http2
    cdef Stream *stream
    if frame.hd.type == NGHTTP2_DATA or frame.hd.type == NGHTTP2_HEADERS:
        stream = stream_find(connection, frame.hd.stream_id)
        if stream == NULL:
            return 0
        if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            stream.has_ended = True
        if frame.hd.type == NGHTTP2_HEADERS and frame.headers.cat == NGHTTP2_HCAT_REQUEST:
            stream_headers_end(connection, stream)
        if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            stream_request_end(connection, stream)
    elif frame.hd.type == NGHTTP2_RST_STREAM:
        if not bucket_take(
            &connection.resets_received, http2.now, http2.limits.reset_burst, http2.limits.reset_rate
        ):
            connection_end(connection, CLOSE_RESETS_RECEIVED, LIMIT_RESETS_RECEIVED, b"too_many_resets")
    elif frame.hd.type == NGHTTP2_SETTINGS:
        connection.has_settings = True
    elif frame.hd.type == NGHTTP2_GOAWAY:
        connection.has_peer_left = True
    elif frame.hd.type == NGHTTP2_PING:
        if frame.hd.flags & NGHTTP2_FLAG_ACK:
            if connection.is_draining and memcmp(frame.ping.opaque_data, b"goodbye.", 8) == 0:
                connection_say_goodbye(connection)
            return 0
        # SPEC: grpc/proposal A8 and A9: a client may not keep a connection alive more often than it is told.
        if connection.answered_since_ping or http2.now - connection.last_ping >= http2.limits.ping_interval:
            connection.ping_strikes = 0
        else:
            connection.ping_strikes += 1
            if connection.ping_strikes > PING_STRIKES:
                connection_end(connection, CLOSE_PINGS, LIMIT_PINGS, b"too_many_pings")
        connection.answered_since_ping = False
        connection.last_ping = http2.now
    return connection_goes_on(connection)


cdef int h2_on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Http2 *http2 = connection.http2
    cdef Stream *stream
    if frame.hd.type == NGHTTP2_HEADERS and frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
        stream = stream_find(connection, frame.hd.stream_id)
        if stream != NULL and not stream.has_ended:
            # SPEC: RFC 9113, section 8.1: the answer is complete, and no more of the request is wanted.
            stream.has_ended = True
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_NO_ERROR)
        return 0
    if frame.hd.type != NGHTTP2_RST_STREAM:
        return 0
    # A peer can make us reset streams as fast as it can open them: CVE-2025-8671.
    if not bucket_take(&connection.resets_sent, http2.now, http2.limits.reset_burst, http2.limits.reset_rate):
        connection_end(connection, CLOSE_RESETS_SENT, LIMIT_RESETS_SENT, b"too_many_resets")
    return 0


cdef int h2_on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *>user
    cdef Http2 *http2 = connection.http2
    cdef Stream *stream = stream_find(connection, id)
    if stream == NULL:
        return 0
    if not stream.is_answered and not stream.is_parked:
        count_add(&http2.telemetry.rpcs[stream.method][RPC_CANCELLED], 1)
    elif stream.answer_sent == stream.answer_len and not stream.was_late:
        if http2.sent == SENT_MOST:
            http2_note_sent(http2)
        http2.sent_arrived[http2.sent] = stream.arrived
        http2.sent += 1
    stream_close(connection, stream)
    return 0


cdef void http2_note_sent(Http2 *http2) noexcept nogil:
    # The answers up to here are in the socket: one reading of the clock tells how long all of them took.
    cdef uint64_t now
    cdef uint32_t i
    if http2.sent == 0:
        return
    now = clock_monotonic()
    for i in range(http2.sent):
        histogram_add(&http2.telemetry.request, now - http2.sent_arrived[i])
    http2.sent = 0


# Connections.

cdef bint http2_set_up(Http2 *http2, const Limits *limits, Telemetry *telemetry) noexcept nogil:
    # False: no memory. *http2* is zeros before.
    cdef nghttp2_session_callbacks *callbacks
    http2.limits = limits
    http2.telemetry = telemetry
    if nghttp2_session_callbacks_new(&http2.callbacks) != 0 or nghttp2_option_new(&http2.option) != 0:
        return False
    callbacks = http2.callbacks
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, <void *>h2_on_begin_frame)
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, <void *>h2_on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(callbacks, <void *>h2_on_header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, <void *>h2_on_frame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, <void *>h2_on_data)
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, <void *>h2_on_frame_sent)
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, <void *>h2_on_stream_close)
    nghttp2_option_set_no_closed_streams(http2.option, 1)
    # Our own limits come first and are told in metrics; the library's stand behind them. It fills its buckets but once
    # a second.
    nghttp2_option_set_max_outbound_ack(http2.option, 2 * limits.control_burst)
    h2_option_set_newer(
        http2.option, 2 * (limits.reset_burst + limits.reset_rate), 2 * limits.reset_rate, CONTINUATIONS_MOST + 1
    )
    return True


cdef void http2_clear(Http2 *http2) noexcept nogil:
    # After the last connection.
    cdef void *slab
    nghttp2_session_callbacks_del(http2.callbacks)
    nghttp2_option_del(http2.option)
    while http2.slabs != NULL:
        slab = http2.slabs
        http2.slabs = (<void **>slab)[0]
        free(slab)


cdef bint connection_open(Connection *connection, Http2 *http2) noexcept nogil:
    # False: no memory. *connection* is zeros before.
    cdef nghttp2_settings_entry settings[3]
    connection.http2 = http2
    connection.opened = http2.now
    connection.active = http2.now
    connection.frame_left = PREFACE
    # The first PING is never too early.
    connection.answered_since_ping = True
    if nghttp2_session_server_new2(&connection.session, http2.callbacks, connection, http2.option) != 0:
        connection.session = NULL
        return False
    settings[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    settings[0].value = <uint32_t>http2.limits.streams
    settings[1].settings_id = NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE
    settings[1].value = WINDOW_STREAM
    settings[2].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    settings[2].value = <uint32_t>http2.limits.header_bytes
    return (
        nghttp2_submit_settings(connection.session, NGHTTP2_FLAG_NONE, settings, 3) == 0
        and nghttp2_session_set_local_window_size(connection.session, NGHTTP2_FLAG_NONE, 0, WINDOW_CONNECTION) == 0
    )


cdef void connection_close(Connection *connection) noexcept nogil:
    cdef Http2 *http2 = connection.http2
    while connection.oldest != NULL:
        if not connection.oldest.is_answered and not connection.oldest.is_parked:
            count_add(&http2.telemetry.rpcs[connection.oldest.method][RPC_CANCELLED], 1)
        stream_close(connection, connection.oldest)
    nghttp2_session_del(connection.session)
    connection.session = NULL


cdef void connection_count_idle_frames(Connection *connection, const uint8_t *data, size_t length) noexcept nogil:
    # Frames of which the library says nothing: unknown ones, and empty DATA that ends nothing, on whatever stream.
    # SPEC: RFC 9113, section 10.5.
    cdef const uint8_t *head = connection.head
    cdef size_t size
    while length:
        if connection.frame_left:
            size = min(<size_t>connection.frame_left, length)
            connection.frame_left -= <uint32_t>size
        else:
            size = min(<size_t>(FRAME_HEAD - connection.head_len), length)
            memcpy(connection.head + connection.head_len, data, size)
            connection.head_len += <uint32_t>size
            if connection.head_len == FRAME_HEAD:
                connection.head_len = 0
                connection.frame_left = <uint32_t>head[0] << 16 | <uint32_t>head[1] << 8 | head[2]
                if head[3] > NGHTTP2_CONTINUATION or (
                    head[3] == NGHTTP2_DATA and connection.frame_left == 0 and not head[4] & NGHTTP2_FLAG_END_STREAM
                ):
                    control_spend(connection)
        data += size
        length -= size


cdef bint connection_receive(Connection *connection, const uint8_t *data, size_t length) noexcept nogil:
    # False: the connection is beyond saving, and its reason stands in it; what is left to send may still be sent.
    cdef ssize_t taken
    if not connection.is_ending:
        connection_count_idle_frames(connection, data, length)
    if connection.is_ending:
        return False
    taken = nghttp2_session_mem_recv(connection.session, data, length)
    if taken < 0 and not connection.is_ending:
        connection.is_ending = True
        connection.reason = CLOSE_NO_MEMORY if taken == NGHTTP2_ERR_NOMEM else CLOSE_PROTOCOL_ERROR
    return taken >= 0


cdef bint connection_is_done(Connection *connection) noexcept nogil:
    # Whether there is nothing left to do on it, once everything has been sent.
    if connection.is_ending:
        return True
    if connection.has_said_goodbye and connection.streams == 0:
        return True
    if nghttp2_session_want_read(connection.session) or nghttp2_session_want_write(connection.session):
        return False
    # Somebody has said goodbye: we, the peer, or the library because a rule was broken.
    if not connection.is_draining:
        connection.reason = CLOSE_PEER if connection.has_peer_left else CLOSE_PROTOCOL_ERROR
    return True


cdef bint stream_tick(Connection *connection, Stream *stream) noexcept nogil:
    # Look at the times of one stream. Whether it did something.
    cdef Http2 *http2 = connection.http2
    cdef uint64_t now = http2.now
    if stream.is_parked:
        if stream.deadline and now >= stream.deadline:
            http2.parked -= 1
            stream.is_parked = False
            http2.unpark(http2.owner, stream, True)
            if stream.method == METHOD_CHECK:
                # Its answer says by now that there is none.
                stream_send_answer(connection, stream)
            else:
                stream_fail(connection, stream, RPC_DEADLINE_EXCEEDED, b"the deadline passed before there was an answer")
            return True
        if http2.unpark(http2.owner, stream, now - stream.answered >= PARK_NANOS):
            http2.parked -= 1
            stream.is_parked = False
            stream_send_answer(connection, stream)
            return True
        return False
    if not stream.is_answered:
        if stream.deadline and now >= stream.deadline:
            stream_fail(connection, stream, RPC_DEADLINE_EXCEEDED, b"the deadline passed before the request was there")
            return True
        if now - stream.arrived >= http2.limits.slow_request:
            count_add(&http2.telemetry.limits[LIMIT_SLOW_REQUEST], 1)
            stream_fail(connection, stream, RPC_DEADLINE_EXCEEDED, b"the request took too long to arrive")
            return True
    elif not stream.was_late and now - stream.answered >= http2.limits.slow_reader:
        stream.was_late = True
        count_add(&http2.telemetry.limits[LIMIT_SLOW_READER], 1)
        nghttp2_submit_rst_stream(connection.session, NGHTTP2_FLAG_NONE, stream.id, NGHTTP2_CANCEL)
        return True
    return False


cdef bint connection_tick(Connection *connection) noexcept nogil:
    # Look at everything that has a time. Whether there may be something to send, or the connection is done.
    cdef Http2 *http2 = connection.http2
    cdef Stream *stream = connection.oldest
    cdef Stream *after
    cdef bint did = False
    while stream != NULL:
        after = stream.after
        did |= stream_tick(connection, stream)
        stream = after
    if connection.is_draining:
        if not connection.has_said_goodbye and http2.now - connection.drained >= GOAWAY_NANOS:
            connection_say_goodbye(connection)
            did = True
    elif not connection.has_settings:
        if http2.now - connection.opened >= http2.limits.handshake:
            connection_end(connection, CLOSE_HANDSHAKE, LIMIT_HANDSHAKE, b"handshake_timeout")
            did = True
    elif connection.streams == 0 and http2.now - connection.active >= http2.limits.idle:
        count_add(&http2.telemetry.limits[LIMIT_IDLE], 1)
        connection_drain(connection, CLOSE_IDLE)
        did = True
    return did
