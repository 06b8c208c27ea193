# SPDX-License-Identifier: Apache-2.0
# Threads of the data listener: one that accepts, and workers that read, answer and write. They never take the GIL and
# have all signals blocked. Images reach a worker through its mailbox and are taken between two calls.

cdef extern from *:
    """
    #define _GNU_SOURCE_SEEN
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <pthread.h>
    #include <signal.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/socket.h>
    """

cdef extern from "time.h" nogil:
    ctypedef int clockid_t

cdef extern from *:
    uint64_t clock_nanos(clockid_t clock) nogil

cdef extern from "signal.h" nogil:
    ctypedef struct sigset_t:
        pass
    int SIG_SETMASK
    int sigfillset(sigset_t *set)

cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    ctypedef struct pthread_attr_t:
        pass
    int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *) noexcept nogil, void *argument)
    int pthread_join(pthread_t thread, void **result)
    int pthread_sigmask(int how, const sigset_t *set, sigset_t *before)
    int pthread_setname_np(pthread_t thread, const char *name)
    int pthread_getcpuclockid(pthread_t thread, clockid_t *clock)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD
    uint32_t EPOLLIN, EPOLLOUT
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)

cdef extern from "sys/eventfd.h" nogil:
    int EFD_NONBLOCK, EFD_CLOEXEC
    int eventfd(unsigned int value, int flags)

cdef extern from "sys/socket.h" nogil:
    int SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_NOSIGNAL, IPPROTO_TCP, TCP_NODELAY, SHUT_WR
    int shutdown(int fd, int how)
    int accept4(int fd, void *address, void *length, int flags)
    int setsockopt(int fd, int level, int option, const void *value, uint32_t size)
    ssize_t recv(int fd, void *data, size_t size, int flags)
    ssize_t send(int fd, const void *data, size_t size, int flags)

cdef extern from "unistd.h" nogil:
    int close(int fd)
    ssize_t write(int fd, const void *data, size_t size)

cdef extern from "fcntl.h" nogil:
    int O_RDONLY, O_CLOEXEC
    int open(const char *path, int flags)

cdef extern from "errno.h" nogil:
    int EAGAIN, EMFILE, ENFILE, ENOMEM, ENOBUFS

cdef enum:
    EVENTS_MOST = 64
    # Sockets that are on their way to a worker.
    INBOX = 1024
    INPUT_BYTES = 64 * 1024
    OUTPUT_BYTES = 128 * 1024
    # The largest frame that nghttp2 hands out at once.
    FRAME_BYTES = 16 * 1024 + 256
    WORKERS_MOST = 64
    LISTENERS_MOST = 16
    TICK_IDLE_MS = 1000
    TICK_BUSY_MS = 10
    TICK_PARKED_MS = 1
    # The longest that a socket stays, once all is said, for its peer to read it.
    LINGER_NANOS = 1000000000
    # Ring this full wakes its reader at once.
    RING_WAKE_SHARE = 4
    ORDER_NONE = 0
    ORDER_DRAIN = 1
    ORDER_STOP = 2


# One socket and the connection on it.
cdef struct Socket:
    Connection connection     # first, so that either pointer is the other
    Socket *before
    Socket *after
    int fd                    # owned
    bint waits_to_write       # the kernel took less than there was: nothing is read meanwhile
    bint lingers              # all is said, and the connection on it is gone
    uint8_t *unsent           # owned; what it did not take
    uint64_t unsent_len
    uint64_t unsent_at
    uint64_t blocked          # when it last took something, or began to linger


# One thread that answers.
cdef struct Worker:
    Server *server
    Desk *desk                # owned
    Http2 http2
    pthread_t thread
    bint runs
    int epoll                 # owned
    int bell                  # owned; an eventfd: the mailbox, the inbox or an order is to be looked at
    Socket *first
    uint64_t ticked           # when times were last looked at
    const ImageView *image    # what it decides by; held by Python until `taken` says otherwise
    uint8_t *input            # owned
    uint8_t *output           # owned
    # The mailbox: the number is written last, so whoever sees the number sees what came with it or something later.
    uint64_t mail_image       # const ImageView *
    uint64_t mail_sessions    # const SessionKeys *
    uint64_t mail_number
    uint64_t taken            # number of the mail it has taken
    # The inbox: a ring of descriptors from the thread that accepts.
    uint64_t inbox_head       # written by that thread
    uint64_t inbox_tail       # written by the worker
    int inbox[INBOX]
    uint64_t order            # ORDER_*
    uint64_t ended            # connections


# The listener. Belongs to a DataServer.
cdef struct Server:
    Limits limits
    Telemetry telemetry       # of the thread that accepts
    Worker *workers           # owned
    uint32_t worker_count
    int listeners[LISTENERS_MOST]  # owned
    uint32_t listener_count
    pthread_t thread
    bint runs
    int epoll                 # owned
    int bell                  # owned
    int spare                 # owned; a descriptor to give up when there are no more
    uint64_t order
    uint64_t handed[WORKERS_MOST]  # connections given to each worker; the accepting thread's own
    uint64_t has_stopped_accepting
    uint64_t has_begun        # whether there has been an image
    uint64_t is_serving       # what the health service says
    int reader_bell           # owned; wakes whoever reads the rings
    const uint8_t *constant   # not NULL: what every Authorize is answered with, for measurements
    uint32_t constant_len


cdef inline void descriptor_close(int *fd) noexcept nogil:
    if fd[0] >= 0:
        close(fd[0])
        fd[0] = -1


cdef inline void bell_ring(int bell) noexcept nogil:
    cdef uint64_t one = 1
    # Fails only if it rings already.
    write(bell, &one, 8)


cdef inline void bell_silence(int bell) noexcept nogil:
    cdef uint64_t count
    read(bell, &count, 8)


# Calls.

cdef inline void worker_take_mail(Worker *worker) noexcept nogil:
    # Between two calls. INVARIANT: no pointer into what was there before is left anywhere in this thread.
    cdef uint64_t number = atomic_get(&worker.mail_number)
    if UNLIKELY(number != worker.taken):
        worker.image = <const ImageView *><size_t>atomic_get(&worker.mail_image)
        worker.desk.tokens.opener.keys = <const SessionKeys *><size_t>atomic_get(&worker.mail_sessions)
        atomic_put(&worker.taken, number)


cdef void answer_health(Server *server, Slice message, Reply *reply) noexcept nogil:
    # SPEC: github.com/grpc/grpc, doc/health-checking.md. A HealthCheckRequest holds the name of a service.
    cdef Reader reader = reader_of(message)
    cdef Slice service = slice_of(NULL, 0)
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef uint8_t *end
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            reply_text(reply, RPC_INVALID_ARGUMENT, b"the request is no grpc.health.v1.HealthCheckRequest")
            return
        if field == 1 and wire_type == WIRE_BYTES:
            if not read_slice(&reader, &service):
                reply_text(reply, RPC_INVALID_ARGUMENT, b"the request is no grpc.health.v1.HealthCheckRequest")
                return
        elif not skip_field(&reader, wire_type):
            reply_text(reply, RPC_INVALID_ARGUMENT, b"the request is no grpc.health.v1.HealthCheckRequest")
            return
    if (
        service.len
        and not text_is(service.data, service.len, b"sidecar.v1.AuthorizationService", 31)
        and not text_is(service.data, service.len, b"envoy.service.auth.v3.Authorization", 35)
    ):
        reply_text(reply, RPC_NOT_FOUND, b"there is no such service here")
        return
    end = write_enum(reply.answer + FRAMING, 1, 1 if atomic_get(&server.is_serving) else 2)
    reply.answer_len = end - (reply.answer + FRAMING)


cdef void worker_answer(void *owner, uint32_t method, Slice message, Reply *reply) noexcept nogil:
    # One row for each method of the data listener.
    cdef Worker *worker = <Worker *>owner
    cdef Server *server = worker.server
    cdef ClockReading now
    cdef uint64_t nanos
    worker_take_mail(worker)
    if method == METHOD_HEALTH_CHECK:
        answer_health(server, message, reply)
        return
    if UNLIKELY(server.constant != NULL):
        memcpy(reply.answer + FRAMING, server.constant, server.constant_len)
        reply.answer_len = server.constant_len
        return
    nanos = clock_realtime()
    now.seconds = nanos // NANOS
    now.nanos = nanos % NANOS
    if method == METHOD_AUTHORIZE:
        answer_authorize(worker.desk, worker.image, message, now, reply)
    elif method == METHOD_BATCH_AUTHORIZE:
        answer_batch(worker.desk, worker.image, message, now, reply)
    elif method == METHOD_CHECK:
        answer_check(worker.desk, worker.image, message, now, reply)
    else:
        reply_text(reply, RPC_UNIMPLEMENTED, b"there is no such method here")


cdef bint worker_refuse(void *owner, uint32_t method, uint32_t code, bint too_large, Reply *reply) noexcept nogil:
    # What a call of this method gets in place of a status, if anything.
    return method == METHOD_CHECK and refuse_check((<Worker *>owner).desk, code, too_large, reply)


cdef bint worker_unpark(void *owner, Stream *stream, bint too_late) noexcept nogil:
    cdef Worker *worker = <Worker *>owner
    if staging_commit(worker.desk, &stream.staging):
        return True
    if not too_late:
        return False
    stream.answer_len = FRAMING + staging_refuse(
        worker.desk, &stream.staging, stream.method, stream.answer + FRAMING
    )
    return True


# Sockets of a worker.

cdef void socket_close(Worker *worker, Socket *socket, uint32_t reason) noexcept nogil:
    # Counted before the peer can see it.
    if not socket.lingers:
        connection_close(&socket.connection)
        count_add(&worker.desk.telemetry.closed[reason], 1)
    count_add(&worker.desk.telemetry.connections, <uint64_t>-1)
    atomic_put(&worker.ended, worker.ended + 1)
    # Also takes it out of the epoll set.
    close(socket.fd)
    free(socket.unsent)
    if socket.before != NULL:
        socket.before.after = socket.after
    else:
        worker.first = socket.after
    if socket.after != NULL:
        socket.after.before = socket.before
    free(socket)


cdef void socket_linger(Worker *worker, Socket *socket, uint32_t reason) noexcept nogil:
    # All is said. Closing now would make the kernel take back what the peer has not read yet, if more of its own has
    # arrived here or is on its way.
    connection_close(&socket.connection)
    count_add(&worker.desk.telemetry.closed[reason], 1)
    socket.lingers = True
    socket.blocked = worker.http2.now
    shutdown(socket.fd, SHUT_WR)


cdef void socket_watch(Worker *worker, Socket *socket, bint for_writing) noexcept nogil:
    cdef epoll_event event
    if socket.waits_to_write == for_writing:
        return
    socket.waits_to_write = for_writing
    event.events = EPOLLOUT if for_writing else EPOLLIN
    event.data.ptr = socket
    epoll_ctl(worker.epoll, EPOLL_CTL_MOD, socket.fd, &event)


cdef int socket_send(Worker *worker, Socket *socket, const uint8_t *data, uint64_t size) noexcept nogil:
    # 1: all of it is gone; 0: the rest is kept for later; -1: the connection is broken.
    cdef ssize_t sent
    while size:
        sent = send(socket.fd, data, size, MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno != EAGAIN:
                return -1
            socket.unsent = <uint8_t *>malloc(size)
            if socket.unsent == NULL:
                return -1
            memcpy(socket.unsent, data, size)
            socket.unsent_len = size
            socket.unsent_at = 0
            socket.blocked = worker.http2.now
            socket_watch(worker, socket, True)
            return 0
        data += sent
        size -= sent
    return 1


cdef int socket_send_rest(Worker *worker, Socket *socket) noexcept nogil:
    # As socket_send, of what was kept.
    cdef ssize_t sent
    while socket.unsent_at < socket.unsent_len:
        sent = send(socket.fd, socket.unsent + socket.unsent_at, socket.unsent_len - socket.unsent_at, MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            return 0 if errno == EAGAIN else -1
        socket.unsent_at += sent
        socket.blocked = worker.http2.now
    free(socket.unsent)
    socket.unsent = NULL
    socket.unsent_len = socket.unsent_at = 0
    socket_watch(worker, socket, False)
    return 1


cdef bint socket_flush(Worker *worker, Socket *socket) noexcept nogil:
    # Send what the connection has to send. False: the socket is closed and gone.
    cdef Connection *connection = &socket.connection
    cdef const uint8_t *data
    cdef ssize_t size
    cdef uint64_t filled = 0
    cdef int sent = 1
    if socket.unsent != NULL or socket.lingers:
        return True
    while sent > 0:
        size = nghttp2_session_mem_send(connection.session, &data)
        if size < 0:
            connection.is_ending = True
            connection.reason = CLOSE_NO_MEMORY
        if size <= 0:
            break
        if filled + size > OUTPUT_BYTES:
            sent = socket_send(worker, socket, worker.output, filled)
            filled = 0
            if sent <= 0:
                # SAFETY: a frame is no larger than what was emptied; it follows what is kept.
                if sent == 0 and not socket_keep(socket, data, size):
                    sent = -1
                break
        memcpy(worker.output + filled, data, size)
        filled += size
    if sent > 0 and filled:
        sent = socket_send(worker, socket, worker.output, filled)
    http2_note_sent(&worker.http2)
    if sent < 0:
        socket_close(worker, socket, CLOSE_BROKEN)
        return False
    if sent > 0 and connection_is_done(connection):
        socket_linger(worker, socket, connection.reason)
    return True


cdef bint socket_keep(Socket *socket, const uint8_t *data, uint64_t size) noexcept nogil:
    # Put *data* behind what is kept already. False: no memory.
    cdef uint8_t *longer = <uint8_t *>realloc(socket.unsent, socket.unsent_len + size)
    if longer == NULL:
        return False
    memcpy(longer + socket.unsent_len, data, size)
    socket.unsent = longer
    socket.unsent_len += size
    return True


cdef void socket_serve(Worker *worker, Socket *socket, uint32_t events) noexcept nogil:
    cdef ssize_t size
    cdef int sent
    if socket.unsent != NULL:
        sent = socket_send_rest(worker, socket)
        if sent < 0:
            socket_close(worker, socket, CLOSE_BROKEN)
            return
        if sent > 0:
            socket_flush(worker, socket)
        return
    size = recv(socket.fd, worker.input, INPUT_BYTES, 0)
    if size < 0:
        if errno != EAGAIN and errno != EINTR:
            socket_close(worker, socket, CLOSE_BROKEN)
        return
    if socket.lingers and size:
        # What comes now comes too late: the peer has been told which of its calls are not answered.
        return
    if size == 0:
        # SPEC: RFC 9113, section 5.4.1: a peer that ends its side ends the connection.
        socket_close(worker, socket, socket.connection.reason if socket.connection.is_draining else CLOSE_PEER)
        return
    connection_receive(&socket.connection, worker.input, size)
    socket_flush(worker, socket)


cdef void socket_open(Worker *worker, int fd) noexcept nogil:
    cdef Socket *socket = <Socket *>calloc(1, sizeof(Socket))
    cdef epoll_event event
    count_add(&worker.desk.telemetry.connections, 1)
    if socket == NULL or not connection_open(&socket.connection, &worker.http2):
        if socket != NULL and socket.connection.session != NULL:
            nghttp2_session_del(socket.connection.session)
        free(socket)
        close(fd)
        count_add(&worker.desk.telemetry.closed[CLOSE_NO_MEMORY], 1)
        count_add(&worker.desk.telemetry.connections, <uint64_t>-1)
        atomic_put(&worker.ended, worker.ended + 1)
        return
    socket.fd = fd
    socket.after = worker.first
    if worker.first != NULL:
        worker.first.before = socket
    worker.first = socket
    event.events = EPOLLIN
    event.data.ptr = socket
    if epoll_ctl(worker.epoll, EPOLL_CTL_ADD, fd, &event) != 0:
        socket_close(worker, socket, CLOSE_NO_MEMORY)
        return
    if atomic_get(&worker.order) == ORDER_DRAIN:
        connection_drain(&socket.connection, CLOSE_DRAINED)
    socket_flush(worker, socket)


# The thread of a worker.

cdef void worker_look_around(Worker *worker) noexcept nogil:
    # The bell has rung.
    cdef Socket *socket = worker.first
    cdef Socket *after
    cdef uint64_t tail
    bell_silence(worker.bell)
    worker_take_mail(worker)
    if atomic_get(&worker.order) == ORDER_DRAIN:
        while socket != NULL:
            after = socket.after
            if not socket.lingers:
                connection_drain(&socket.connection, CLOSE_DRAINED)
                socket_flush(worker, socket)
            socket = after
    tail = worker.inbox_tail
    while tail != atomic_get(&worker.inbox_head):
        socket_open(worker, worker.inbox[tail % INBOX])
        tail += 1
        atomic_put(&worker.inbox_tail, tail)


cdef inline int worker_pause(const Worker *worker) noexcept nogil:
    # Milliseconds until times are looked at again.
    return TICK_PARKED_MS if worker.http2.parked else TICK_BUSY_MS if worker.http2.streams else TICK_IDLE_MS


cdef void worker_tick(Worker *worker) noexcept nogil:
    cdef Socket *socket = worker.first
    cdef Socket *after
    while socket != NULL:
        after = socket.after
        if socket.lingers:
            if worker.http2.now - socket.blocked >= LINGER_NANOS:
                socket_close(worker, socket, CLOSE_STOPPED)
        elif socket.unsent != NULL and worker.http2.now - socket.blocked >= worker.http2.limits.slow_reader:
            count_add(&worker.desk.telemetry.limits[LIMIT_SLOW_READER], 1)
            socket_close(worker, socket, CLOSE_SLOW_READER)
        elif connection_tick(&socket.connection):
            socket_flush(worker, socket)
        socket = after


cdef void *worker_run(void *argument) noexcept nogil:
    cdef Worker *worker = <Worker *>argument
    cdef Http2 *http2 = &worker.http2
    cdef Ring *ring = &worker.desk.ring
    cdef epoll_event events[EVENTS_MOST]
    cdef int timeout
    cdef int count
    cdef int i
    while True:
        timeout = -1 if worker.first == NULL else worker_pause(worker)
        count = epoll_wait(worker.epoll, events, EVENTS_MOST, timeout)
        http2.now = clock_monotonic()
        for i in range(count):
            if events[i].data.ptr == <void *>worker:
                if atomic_get(&worker.order) == ORDER_STOP:
                    return NULL
                # Connections may end by it, and another event may be theirs.
                count = i + 1
                worker_look_around(worker)
                break
            socket_serve(worker, <Socket *>events[i].data.ptr, events[i].events)
        if http2.now - worker.ticked >= <uint64_t>worker_pause(worker) * 1000000:
            worker_tick(worker)
            worker.ticked = http2.now
        if ring.data != NULL and ring.head - atomic_get(&ring.tail) >= ring.size // RING_WAKE_SHARE:
            if atomic_get(&ring.bell):
                atomic_put(&ring.bell, 0)
                bell_ring(worker.server.reader_bell)


# The thread that accepts.

cdef void server_hand_over(Server *server, int fd) noexcept nogil:
    # To the worker with the fewest connections; the first of equals.
    cdef Worker *worker
    cdef Worker *best = NULL
    cdef uint64_t open_there
    cdef uint64_t open_best = 0
    cdef uint64_t total = 0
    cdef uint32_t number = 0
    cdef uint32_t i
    cdef int yes = 1
    for i in range(server.worker_count):
        worker = &server.workers[i]
        open_there = server.handed[i] - atomic_get(&worker.ended)
        total += open_there
        if worker.inbox_head - atomic_get(&worker.inbox_tail) < INBOX and (best == NULL or open_there < open_best):
            best = worker
            open_best = open_there
            number = i
    if best == NULL or total >= server.limits.connections:
        count_add(&server.telemetry.limits[LIMIT_CONNECTIONS], 1)
        close(fd)
        return
    # Fails for Unix sockets, which send at once anyway.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes))
    count_add(&server.telemetry.accepted, 1)
    server.handed[number] += 1
    best.inbox[best.inbox_head % INBOX] = fd
    atomic_put(&best.inbox_head, best.inbox_head + 1)
    bell_ring(best.bell)


cdef bint server_accept(Server *server, int listener) noexcept nogil:
    # Take every connection that waits. False: there is no descriptor left, so it is no use to try again at once.
    cdef bint nobody
    cdef int fd
    while True:
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            if LIKELY(atomic_get(&server.has_begun)):
                server_hand_over(server, fd)
            else:
                # Before the first image there is nothing to decide by. Whoever is turned away asks another one, or again;
                # a denial they would believe.
                close(fd)
            continue
        if errno == EINTR:
            continue
        if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
            # Refuse the one that waits, rather than let it wait for ever and wake us for ever. Whether there is one can
            # only be seen with a descriptor at hand.
            descriptor_close(&server.spare)
            fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)
            nobody = fd < 0 and errno == EAGAIN
            if fd >= 0:
                close(fd)
            server.spare = open(b"/dev/null", O_RDONLY | O_CLOEXEC)
            if nobody:
                return True
            count_add(&server.telemetry.limits[LIMIT_DESCRIPTORS], 1)
            if fd < 0:
                return False
            continue
        return True


cdef void *server_run(void *argument) noexcept nogil:
    cdef Server *server = <Server *>argument
    cdef epoll_event events[LISTENERS_MOST + 1]
    cdef int count
    cdef int i
    cdef uint32_t k
    while True:
        count = epoll_wait(server.epoll, events, LISTENERS_MOST + 1, -1)
        for i in range(count):
            if events[i].data.ptr == NULL:
                # Whoever has connected by now is served; whoever comes later finds nobody.
                for k in range(server.listener_count):
                    server_accept(server, server.listeners[k])
                    descriptor_close(&server.listeners[k])
                atomic_put(&server.has_stopped_accepting, 1)
                return NULL
            k = <uint32_t>(<size_t>events[i].data.ptr - 1)
            if not server_accept(server, server.listeners[k]):
                usleep(100000)


# Beginning and end. All of it under the GIL, or by whoever has stopped the threads.

cdef bint worker_set_up(Worker *worker, Server *server, uint16_t number) noexcept nogil:
    cdef epoll_event event
    worker.server = server
    worker.epoll = epoll_create1(EPOLL_CLOEXEC)
    worker.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    worker.desk = <Desk *>calloc(1, sizeof(Desk))
    worker.input = <uint8_t *>malloc(INPUT_BYTES)
    worker.output = <uint8_t *>malloc(OUTPUT_BYTES)
    if worker.epoll < 0 or worker.bell < 0 or worker.desk == NULL or worker.input == NULL or worker.output == NULL:
        return False
    if not desk_set_up(worker.desk, number):
        return False
    worker.http2.owner = worker
    worker.http2.answer_call = worker_answer
    worker.http2.refuse_call = worker_refuse
    worker.http2.unpark = worker_unpark
    event.events = EPOLLIN
    event.data.ptr = worker
    return (
        http2_set_up(&worker.http2, &server.limits, &worker.desk.telemetry)
        and epoll_ctl(worker.epoll, EPOLL_CTL_ADD, worker.bell, &event) == 0
    )


cdef void worker_clear(Worker *worker) noexcept nogil:
    # After its thread has ended.
    cdef uint64_t tail = worker.inbox_tail
    while worker.first != NULL:
        socket_close(worker, worker.first, CLOSE_STOPPED)
    while tail != worker.inbox_head:
        close(worker.inbox[tail % INBOX])
        tail += 1
    worker.inbox_tail = tail
    if worker.http2.callbacks != NULL:
        http2_clear(&worker.http2)
        worker.http2.callbacks = NULL
    descriptor_close(&worker.epoll)
    descriptor_close(&worker.bell)
    free(worker.input)
    free(worker.output)
    worker.input = worker.output = NULL


cdef bint thread_start(pthread_t *thread, void *(*run)(void *) noexcept nogil, void *argument, const char *name) noexcept nogil:
    # With every signal blocked: they are for Python's main thread.
    cdef sigset_t every
    cdef sigset_t before
    cdef bint started
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    started = pthread_create(thread, NULL, run, argument) == 0
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if started:
        pthread_setname_np(thread[0], name)
    return started


cdef void server_order(Server *server, uint64_t order) noexcept nogil:
    cdef uint32_t i
    for i in range(server.worker_count):
        atomic_put(&server.workers[i].order, order)
        bell_ring(server.workers[i].bell)


cdef uint64_t server_open_connections(const Server *server) noexcept nogil:
    # Once nothing is accepted any more.
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(server.worker_count):
        total += server.handed[i] - atomic_get(&server.workers[i].ended)
    return total
