# SPDX-License-Identifier: Apache-2.0
# One connection of the data listener without a socket and a thread, for tests: bytes in, bytes out, and a clock that
# stands still until it is moved.


# Of the worker, the desk and what connections share are used; it has no thread and no descriptors.
cdef struct Probe:
    Worker worker             # first, so that either pointer is the other
    Server server
    Connection connection
    ClockReading clock        # at which everything is decided


cdef void probe_answer(void *owner, uint32_t method, Slice message, Reply *reply) noexcept nogil:
    # As worker_answer, at a time of its own.
    cdef Probe *probe = <Probe *>owner
    if method == METHOD_HEALTH_CHECK:
        answer_health(&probe.server, message, reply)
    elif method == METHOD_AUTHORIZE:
        answer_authorize(probe.worker.desk, probe.worker.image, message, probe.clock, reply)
    elif method == METHOD_BATCH_AUTHORIZE:
        answer_batch(probe.worker.desk, probe.worker.image, message, probe.clock, reply)
    elif method == METHOD_CHECK:
        answer_check(probe.worker.desk, probe.worker.image, message, probe.clock, reply)
    else:
        reply_text(reply, RPC_UNIMPLEMENTED, b"there is no such method here")


@cython.final
cdef class ConnectionProbe:
    """
    What a connection of the data listener does with bytes, to be looked at by tests.

    Thread-safety: confined to one thread.
    """

    cdef Probe *probe
    cdef Image image          # held while the connection may decide by it
    cdef SessionState sessions  # likewise, while it may open tokens with it
    cdef CheckPlan check      # likewise

    def __cinit__(self):
        self.probe = NULL

    def __init__(
        self, Image image, *, limits, int64_t seconds, uint64_t ring_bytes=0, bint must_record=False,
        SessionState sessions=None, CheckPlan check=None,
    ):
        """
        Args:
            image: What it decides by; None for no snapshot.
            limits: A value for each of ``LIMIT_NAMES``; times in nanoseconds.
            seconds: The time since the epoch at which everything is decided.
            ring_bytes: Room for decision records, a power of two; 0 to keep none.
            must_record: Whether an answer leaves only if there is room for its record.
            sessions: What session tokens are opened with; None: every one is denied.
            check: How Envoy is answered; None: as by default.
        """
        cdef Probe *probe = <Probe *>calloc(1, sizeof(Probe))
        if self.probe != NULL or probe == NULL:
            free(probe)
            raise MemoryError
        self.probe = probe
        self.image = image
        limits_read(&probe.server.limits, limits)
        probe.clock.seconds = seconds
        probe.worker.server = &probe.server
        probe.worker.image = NULL if image is None else &image.view
        probe.worker.desk = <Desk *>calloc(1, sizeof(Desk))
        if probe.worker.desk == NULL:
            raise MemoryError
        if not desk_set_up(probe.worker.desk, 0):
            raise MemoryError
        if not desk_can_open(probe.worker.desk):
            raise MemoryError
        self.check = default_check_plan if check is None else check
        probe.worker.desk.check = &self.check.view
        self.sessions = sessions
        if sessions is not None:
            probe.worker.desk.tokens.opener.keys = &sessions.keys
        if ring_bytes:
            ring_start(probe.worker.desk, ring_bytes, 1, 1, must_record)
        probe.worker.http2.owner = probe
        probe.worker.http2.answer_call = probe_answer
        probe.worker.http2.refuse_call = worker_refuse
        probe.worker.http2.unpark = worker_unpark
        # No time is 0: that is a bucket that was never used.
        probe.worker.http2.now = NANOS
        if not http2_set_up(&probe.worker.http2, &probe.server.limits, &probe.worker.desk.telemetry):
            raise MemoryError
        if not connection_open(&probe.connection, &probe.worker.http2):
            raise MemoryError

    def __dealloc__(self):
        if self.probe == NULL:
            return
        if self.probe.connection.session != NULL:
            connection_close(&self.probe.connection)
        if self.probe.worker.http2.callbacks != NULL:
            http2_clear(&self.probe.worker.http2)
        if self.probe.worker.desk != NULL:
            desk_clear(self.probe.worker.desk)
            free(self.probe.worker.desk)
        free(self.probe)

    cdef Connection *connection(self) except NULL:
        if self.probe == NULL or self.probe.connection.session == NULL:
            raise ValueError("the connection is closed")
        return &self.probe.connection

    def receive(self, bytes data):
        """Take bytes from the peer, and return whether the connection can be saved."""
        return bool(connection_receive(self.connection(), <const uint8_t *><const char *>data, len(data)))

    def send(self, uint32_t frames=0xFFFFFFFF):
        """Return what there is to send, at most so many *frames*."""
        cdef Connection *connection = self.connection()
        cdef const uint8_t *data
        cdef ssize_t size
        parts = []
        while len(parts) < frames:
            size = nghttp2_session_mem_send(connection.session, &data)
            if size < 0:
                connection.is_ending = True
                connection.reason = CLOSE_NO_MEMORY
            if size <= 0:
                break
            parts.append((<const char *>data)[:size])
        http2_note_sent(&self.probe.worker.http2)
        return b"".join(parts)

    def advance(self, uint64_t nanoseconds):
        """Move the clock of the connection; nothing happens by it before the next `tick` or bytes."""
        self.probe.worker.http2.now += nanoseconds

    def tick(self):
        """Look at everything that has a time, and return whether there may be something to send."""
        return bool(connection_tick(self.connection()))

    def drain(self):
        """Begin to end the connection without losing a call."""
        connection_drain(self.connection(), CLOSE_DRAINED)

    def is_done(self):
        """Return whether the connection would be closed now, once everything has been sent."""
        return bool(connection_is_done(self.connection()))

    def close(self):
        """End the connection as if its socket were gone."""
        connection_close(self.connection())

    def held(self):
        """Return what the connection makes its worker hold: streams, parked answers, bytes of messages and answers."""
        cdef Http2 *http2 = &self.probe.worker.http2
        return {"streams": http2.streams, "parked": http2.parked, "message_memory": http2.message_memory}

    def reason(self):
        """Return why the connection ends, a number of ``CloseReason``, where it does by the listener's will."""
        return self.probe.connection.reason

    def telemetry(self):
        """Return what was counted so far."""
        cdef Desk *desk = self.probe.worker.desk
        return telemetry_dict(&desk.telemetry, &desk.ring, &desk.tokens.opener)

    def read_records(self, uint64_t most=1 << 20):
        """Return records that have not been read yet, one behind the other, at most *most* bytes of them."""
        return ring_read(&self.probe.worker.desk.ring, most)


cdef bytes slice_bytes(Slice text):
    return (<const char *>text.data)[:text.len] if text.len else b""


cdef list pairs_list(const Header *pairs, uint32_t count):
    cdef uint32_t i
    return [(slice_bytes(pairs[i].name), slice_bytes(pairs[i].value)) for i in range(count)]


def read_attributes(bytes message):
    """
    Return what a serialized ``CheckRequest`` says, as the core reads it.

    Raises:
        RequestError: It is malformed; its ``field`` names where.
    """
    cdef Fault fault
    cdef Attributes *a = <Attributes *>malloc(sizeof(Attributes))
    if a == NULL:
        raise MemoryError
    try:
        fault_clear(&fault)
        if not attributes_read(slice_of(<const uint8_t *><const char *>message, <uint32_t>len(message)), a, &fault):
            raise fault_error(&fault)
        return {
            "source_address": slice_bytes(a.source_address),
            "source_principal": slice_bytes(a.source_principal),
            "method": slice_bytes(a.method),
            "path": slice_bytes(a.path),
            "host": slice_bytes(a.host),
            "scheme": slice_bytes(a.scheme),
            "protocol": slice_bytes(a.protocol),
            "sni": slice_bytes(a.sni),
            "request_id": slice_bytes(a.request_id),
            "headers": pairs_list(a.headers, a.header_count),
            "extensions": pairs_list(a.extensions, a.extension_count),
            "filters": pairs_list(a.filters, a.filter_count),
        }
    finally:
        free(a)


def find_in_struct(bytes message, bytes path):
    """
    Return what a name leads to in a serialized ``google.protobuf.Struct``: the kind of the value, its bytes, its number.

    Args:
        path: The name; nested names with a NUL between.

    Returns:
        None where it leads nowhere.
    """
    cdef Slice found
    cdef StructValue value
    if not struct_find(
        slice_of(<const uint8_t *><const char *>message, <uint32_t>len(message)),
        slice_of(<const uint8_t *><const char *>path, <uint32_t>len(path)), &found,
    ) or not value_read(found, &value):
        return None
    return value.kind, slice_bytes(value.bytes), value.number
