# SPDX-License-Identifier: Apache-2.0
# What Python sees of the data listener.

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)


@cython.final
cdef class DataServer:
    """
    A gRPC server on sockets that are bound already, answering in threads of its own that never take the GIL.

    Thread-safety: ``start``, ``drain`` and ``close`` are called once each, in this order, by one thread; ``wait_for_records``
    and ``read_records`` by one thread, which may be another; all else by any.
    """

    cdef Server *server
    cdef list mails           # that a worker may still go by: (number, image, session state)
    cdef uint64_t number      # of the last mail
    cdef bytes constant
    cdef CheckPlan check
    cdef object publishing    # a lock: threads, and what they hold, neither begin nor end meanwhile
    cdef bint has_ended

    def __cinit__(self):
        self.server = NULL

    def __init__(self, listeners, *, uint32_t workers, limits, CheckPlan check=None, constant_answer=None):
        """
        Args:
            listeners: Descriptors of listening sockets; they belong to the server from now on.
            workers: Threads that answer, 1 to 64.
            limits: A value for each of ``limit_names()``; times in nanoseconds.
            check: How Envoy is answered; None: as by default.
            constant_answer: Answers every ``Authorize`` with these bytes; for measurements alone.

        Raises:
            OSError: The system has no threads, descriptors or memory left.
        """
        from threading import Lock

        cdef uint32_t i
        if not 1 <= workers <= WORKERS_MOST:
            raise ValueError(f"1 to {WORKERS_MOST} workers")
        if not 1 <= len(listeners) <= LISTENERS_MOST:
            raise ValueError(f"1 to {LISTENERS_MOST} listening sockets")
        self.mails = [(0, None, None)]
        self.number = 0
        self.publishing = Lock()
        self.check = default_check_plan if check is None else check
        self.server = <Server *>calloc(1, sizeof(Server))
        if self.server == NULL:
            raise MemoryError
        server = self.server
        server.epoll = server.bell = server.reader_bell = server.spare = -1
        limits_read(&server.limits, limits)
        for fd in listeners:
            server.listeners[server.listener_count] = fd
            server.listener_count += 1
        if constant_answer is not None:
            if len(constant_answer) > ANSWER_MOST:
                raise ValueError(f"the answer is longer than {ANSWER_MOST} bytes")
            self.constant = constant_answer
            server.constant = <const uint8_t *><const char *>self.constant
            server.constant_len = <uint32_t>len(constant_answer)
            # That takes no image.
            server.has_begun = 1
        server.workers = <Worker *>calloc(workers, sizeof(Worker))
        if server.workers == NULL:
            raise MemoryError
        for i in range(workers):
            server.workers[i].epoll = server.workers[i].bell = -1
        for i in range(workers):
            server.worker_count = i + 1
            if not worker_set_up(&server.workers[i], server, <uint16_t>i):
                raise OSError(errno, "a worker cannot be made")
            server.workers[i].desk.check = &self.check.view
            if not desk_can_open(server.workers[i].desk):
                raise InternalError("API keys and tickets cannot be made", cause="libcrypto offers no AES-256-GCM or no SHA-256")
        server.epoll = epoll_create1(EPOLL_CLOEXEC)
        server.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        server.reader_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        server.spare = open(b"/dev/null", O_RDONLY | O_CLOEXEC)
        if server.epoll < 0 or server.bell < 0 or server.reader_bell < 0:
            raise OSError(errno, "no descriptors are left")

    def __dealloc__(self):
        cdef uint32_t i
        if self.server != NULL:
            server_end(self.server)
            # Records can be waited for and read until then.
            descriptor_close(&self.server.reader_bell)
            for i in range(self.server.worker_count):
                if self.server.workers[i].desk != NULL:
                    desk_clear(self.server.workers[i].desk)
                    free(self.server.workers[i].desk)
            free(self.server.workers)
            free(self.server)

    def keep_log(self, *, uint64_t ring_bytes, double allows, double denials, bint must_record):
        """
        Keep records of decisions; call it before ``start``.

        Args:
            ring_bytes: Room for records that nobody has read yet, for each worker; a power of two.
            allows: The share of allows that is recorded, 0 to 1.
            denials: The same of denials.
            must_record: Whether an answer leaves only if there is room for its record.
        """
        cdef uint32_t i
        for i in range(self.server.worker_count):
            ring_start(self.server.workers[i].desk, ring_bytes, allows, denials, must_record)

    def start(self):
        """
        Begin to accept and answer.

        Raises:
            OSError: The system has no threads left.
        """
        cdef Server *server = self.server
        cdef epoll_event event
        cdef uint32_t i
        for i in range(server.worker_count):
            name = f"data-{i}".encode()
            if not thread_start(&server.workers[i].thread, worker_run, &server.workers[i], name):
                raise OSError(errno, "a thread cannot be started")
            server.workers[i].runs = True
        event.events = EPOLLIN
        event.data.ptr = NULL
        epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.bell, &event)
        for i in range(server.listener_count):
            event.data.ptr = <void *><size_t>(i + 1)
            if epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.listeners[i], &event) != 0:
                raise OSError(errno, "a socket cannot be listened on")
        if not thread_start(&server.thread, server_run, server, b"data-accept"):
            raise OSError(errno, "a thread cannot be started")
        server.runs = True

    def publish(self, Image image):
        """
        Have every worker decide by *image* from its next call on; None for none. Before the first one, connections are
        closed as soon as they are made.

        The image before is let go once no worker can be using it, idle ones included. That is waited for a second at
        most, without the GIL; if it takes longer, the next call sees to it.
        """
        with self.publishing:
            if not self.has_ended:
                self.send_mail(image, self.mails[len(self.mails) - 1][2])
                if image is not None:
                    atomic_put(&self.server.has_begun, 1)

    def publish_sessions(self, SessionState state):
        """
        Have every worker open session tokens with *state* from its next call on; None: every token is denied.

        The state before is let go as images are.

        Raises:
            InternalError: A worker cannot be given what it opens tokens with.
        """
        cdef uint32_t i
        with self.publishing:
            if self.has_ended:
                return
            for i in range(self.server.worker_count):
                if state is not None and not desk_can_open(self.server.workers[i].desk):
                    raise InternalError("session tokens cannot be opened", cause="libcrypto has no memory left")
            self.send_mail(self.mails[len(self.mails) - 1][1], state)

    cdef object send_mail(self, Image image, SessionState state):
        cdef const ImageView *view = NULL if image is None else &image.view
        cdef const SessionKeys *keys = NULL if state is None else &state.keys
        cdef Worker *worker
        cdef uint64_t latest
        cdef uint64_t least = 0
        cdef uint32_t i
        self.number += 1
        # Held before any worker can see it.
        self.mails.append((self.number, image, state))
        for i in range(self.server.worker_count):
            worker = &self.server.workers[i]
            atomic_put(&worker.mail_image, <uint64_t><size_t>view)
            atomic_put(&worker.mail_sessions, <uint64_t><size_t>keys)
            atomic_put(&worker.mail_number, self.number)
            if worker.runs:
                bell_ring(worker.bell)
            else:
                worker_take_mail(worker)
        with nogil:
            latest = clock_monotonic() + NANOS
            while True:
                least = self.number
                for i in range(self.server.worker_count):
                    least = min(least, atomic_get(&self.server.workers[i].taken))
                if least == self.number or clock_monotonic() >= latest:
                    break
                usleep(200)
        self.mails = [mail for mail in self.mails if mail[0] >= least]

    def set_serving(self, bint is_serving):
        """Say in the health service whether decisions can be given."""
        atomic_put(&self.server.is_serving, 1 if is_serving else 0)

    def drain(self, double seconds):
        """
        Accept no more, let calls under way end and tell peers to go; wait for that at most *seconds*.

        Returns:
            Whether every connection has ended in that time.
        """
        cdef Server *server = self.server
        cdef uint64_t latest = clock_monotonic() + <uint64_t>(seconds * NANOS)
        cdef uint64_t left = 0
        if not server.runs:
            return True
        with nogil:
            bell_ring(server.bell)
            pthread_join(server.thread, NULL)
            server.runs = False
            server_order(server, ORDER_DRAIN)
            while True:
                left = server_open_connections(server)
                if left == 0 or clock_monotonic() >= latest:
                    break
                usleep(1000)
        return left == 0

    def close(self):
        """End every connection and thread. Records that were not read yet can still be."""
        with self.publishing:
            self.has_ended = True
            with nogil:
                server_end(self.server)
            self.mails = [(self.number, None, None)]

    def telemetry(self):
        """Return what was counted so far: of the thread that accepts first, then of each worker."""
        cdef Ring none
        cdef Opener nothing
        cdef Desk *desk
        cdef uint32_t i
        memset(&none, 0, sizeof(Ring))
        memset(&nothing, 0, sizeof(Opener))
        told = [telemetry_dict(&self.server.telemetry, &none, &nothing)]
        for i in range(self.server.worker_count):
            desk = self.server.workers[i].desk
            told.append(telemetry_dict(&desk.telemetry, &desk.ring, &desk.tokens.opener))
        return told

    def worker_cpu_seconds(self):
        """Return the processor time that each worker has used; none once they have ended."""
        cdef clockid_t clock
        cdef uint32_t i
        times = []
        with self.publishing:
            for i in range(self.server.worker_count):
                if self.server.workers[i].runs and pthread_getcpuclockid(self.server.workers[i].thread, &clock) == 0:
                    times.append(clock_nanos(clock) / 1e9)
        return times

    def held_images(self):
        """Return how many images are held: the one in place, and any that a worker may still decide by."""
        return len({id(image) for _, image, _ in self.mails if image is not None})

    def held_sessions(self):
        """Return how many session states are held: the one in place, and any that a worker may still open tokens with."""
        return len({id(state) for _, _, state in self.mails if state is not None})

    def wait_for_records(self, int milliseconds):
        """Wait, without the GIL, until a ring fills up, or for *milliseconds*."""
        cdef pollfd waiting
        cdef uint32_t i
        for i in range(self.server.worker_count):
            atomic_put(&self.server.workers[i].desk.ring.bell, 1)
        waiting.fd = self.server.reader_bell
        waiting.events = POLLIN
        with nogil:
            poll(&waiting, 1, milliseconds)
            bell_silence(self.server.reader_bell)

    def read_records(self, uint64_t most=1 << 20):
        """Return records that have not been read yet, one behind the other, at most *most* bytes of each worker's."""
        cdef uint32_t i
        return b"".join(
            [ring_read(&self.server.workers[i].desk.ring, most) for i in range(self.server.worker_count)]
        )


cdef void server_end(Server *server) noexcept nogil:
    cdef uint32_t i
    if server.runs:
        bell_ring(server.bell)
        pthread_join(server.thread, NULL)
        server.runs = False
    server_order(server, ORDER_STOP)
    for i in range(server.worker_count):
        if server.workers[i].runs:
            pthread_join(server.workers[i].thread, NULL)
            server.workers[i].runs = False
        worker_clear(&server.workers[i])
    for i in range(server.listener_count):
        descriptor_close(&server.listeners[i])
    descriptor_close(&server.epoll)
    descriptor_close(&server.bell)
    descriptor_close(&server.spare)


LIMIT_NAMES = (
    "connections", "streams", "worker_streams", "header_bytes", "message_memory", "idle", "handshake", "slow_request",
    "slow_reader", "reset_burst", "reset_rate", "control_burst", "control_rate", "ping_interval",
)


cdef object limits_read(Limits *limits, values):
    # SAFETY: Limits is nothing but words of 64 bits, in the order of the names.
    cdef uint64_t *place = <uint64_t *>limits
    if set(values) != set(LIMIT_NAMES):
        raise ValueError(f"the limits are {', '.join(LIMIT_NAMES)}")
    for number, name in enumerate(LIMIT_NAMES):
        place[number] = values[name]
