/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A gRPC server that does nothing: it reads each request to its end and answers with a message of so many bytes.
 *
 *     nothing_server BYTES ADDRESS...        ADDRESS: HOST:PORT (port 0: a free one), or unix:PATH
 *
 * It is what the listener of the sidecar is compared with: plain nghttp2 on one epoll loop, one read and one write a
 * turn, the allocator of the C library. It prints one line once it listens, and `answered N` for each SIGUSR1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 65536, WRITE_BYTES = 65536, WINDOW = 1 << 20, MOST_LISTENERS = 8, MOST_EVENTS = 64 };

struct connection {
    int fd, is_listener, waits_to_write;
    nghttp2_session *session;
    size_t begin, end; /* What is written next of out. */
    uint8_t out[WRITE_BYTES];
};

static int poller;
static nghttp2_option *option;
static size_t answer_bytes;
static uint8_t *answer; /* The five bytes before a gRPC message, and the message. */
static unsigned long long answered;
static volatile sig_atomic_t is_asked;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void ask(int number) {
    (void)number;
    is_asked = 1;
}

#define HEADER(name, value)                                                                                            \
    {(uint8_t *)(name), (uint8_t *)(value), sizeof(name) - 1, sizeof(value) - 1,                                       \
     NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}
static const nghttp2_nv headers[] = {HEADER(":status", "200"), HEADER("content-type", "application/grpc")};
static const nghttp2_nv trailers[] = {HEADER("grpc-status", "0")};

/* The place in the answer is kept as the user data of its stream. */
static ssize_t give_answer(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room, uint32_t *flags,
                           nghttp2_data_source *source, void *unused) {
    size_t done = (size_t)nghttp2_session_get_stream_user_data(session, stream), left = answer_bytes - done;
    size_t count = left < room ? left : room;
    (void)source, (void)unused;
    memcpy(buffer, answer + done, count);
    if (count == left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, stream, trailers, 1) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        answered++;
    } else {
        nghttp2_session_set_stream_user_data(session, stream, (void *)(done + count));
    }
    return (ssize_t)count;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *unused) {
    nghttp2_data_provider provider = {.read_callback = give_answer};
    (void)unused;
    if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
        frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        return nghttp2_submit_response(session, frame->hd.stream_id, headers, 2, &provider);
    return 0;
}

static void watch(struct connection *c, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, change, c->fd, &event) != 0)
        die("epoll_ctl");
}

static void hang_up(struct connection *c) {
    nghttp2_session_del(c->session);
    close(c->fd);
    free(c);
}

/* Writes what there is; returns 0 when the connection is over. */
static int write_out(struct connection *c) {
    const uint8_t *piece;
    ssize_t size = 1, written;
    while (size > 0) {
        /* A piece is a frame, at most 16 KiB and its header. */
        while (WRITE_BYTES - c->end > 16384 + 9 && (size = nghttp2_session_mem_send(c->session, &piece)) > 0) {
            memcpy(c->out + c->end, piece, (size_t)size);
            c->end += (size_t)size;
        }
        if (size < 0)
            return 0;
        while (c->begin < c->end) {
            written = send(c->fd, c->out + c->begin, c->end - c->begin, MSG_NOSIGNAL);
            if (written < 0 && errno == EAGAIN) {
                if (!c->waits_to_write)
                    watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
                c->waits_to_write = 1;
                return 1;
            }
            if (written < 0)
                return 0;
            c->begin += (size_t)written;
        }
        c->begin = c->end = 0;
    }
    if (c->waits_to_write)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->waits_to_write = 0;
    return nghttp2_session_want_read(c->session) || nghttp2_session_want_write(c->session);
}

static int read_in(struct connection *c) {
    static uint8_t buffer[READ_BYTES];
    ssize_t size = recv(c->fd, buffer, sizeof buffer, 0);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    return size > 0 && nghttp2_session_mem_recv(c->session, buffer, (size_t)size) == size;
}

static void greet(int listener, const nghttp2_session_callbacks *callbacks) {
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1024}};
    struct connection *c;
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c = calloc(1, sizeof *c);
    if (c == NULL || nghttp2_session_server_new2(&c->session, callbacks, NULL, option) != 0)
        die("no memory");
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 1);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
    if (!write_out(c))
        hang_up(c);
}

static void listen_on(const char *address, struct connection *listener) {
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET};
    socklen_t size = sizeof inet;
    int one = 1, is_local = strncmp(address, "unix:", 5) == 0;
    char host[64] = "", shown[INET_ADDRSTRLEN];
    unsigned port = 0;
    listener->is_listener = 1;
    listener->fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (is_local) {
        strncpy(local.sun_path, address + 5, sizeof local.sun_path - 1);
        if (bind(listener->fd, (struct sockaddr *)&local, sizeof local) != 0)
            die(address);
        printf(" %s", address);
    } else {
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (sscanf(address, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &inet.sin_addr) != 1) {
            fprintf(stderr, "no address: %s\n", address);
            exit(2);
        }
        inet.sin_port = htons((uint16_t)port);
        if (bind(listener->fd, (struct sockaddr *)&inet, sizeof inet) != 0 ||
            getsockname(listener->fd, (struct sockaddr *)&inet, &size) != 0)
            die(address);
        printf(" %s:%u", inet_ntop(AF_INET, &inet.sin_addr, shown, sizeof shown), ntohs(inet.sin_port));
    }
    if (listen(listener->fd, 1024) != 0)
        die(address);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
}

int main(int count, char **arguments) {
    static struct connection listeners[MOST_LISTENERS];
    struct sigaction action = {.sa_handler = ask};
    struct epoll_event events[MOST_EVENTS];
    nghttp2_session_callbacks *callbacks;
    if (count < 3 || count > 2 + MOST_LISTENERS) {
        fprintf(stderr, "usage: nothing_server BYTES ADDRESS...\n");
        return 2;
    }
    answer_bytes = 5 + strtoul(arguments[1], NULL, 10);
    answer = calloc(1, answer_bytes);
    if (answer == NULL || nghttp2_session_callbacks_new(&callbacks) != 0 ||
        nghttp2_option_new(&option) != 0)
        die("no memory");
    for (int i = 0; i < 4; i++)
        answer[1 + i] = (uint8_t)((answer_bytes - 5) >> (24 - 8 * i));
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    /* Streams that are over serve nobody: they would be kept for priorities, which HTTP/2 has given up. */
    nghttp2_option_set_no_closed_streams(option, 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    sigaction(SIGUSR1, &action, NULL);
    printf("nothing_server serving:");
    for (int i = 2; i < count; i++)
        listen_on(arguments[i], &listeners[i - 2]);
    printf("\n");
    fflush(stdout);
    for (;;) {
        /* A signal may come just before it waits. */
        int ready = epoll_wait(poller, events, MOST_EVENTS, 1000);
        if (is_asked) {
            is_asked = 0;
            printf("answered %llu\n", answered);
            fflush(stdout);
        }
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->is_listener)
                greet(c->fd, callbacks);
            else if ((events[i].events & ~(uint32_t)EPOLLOUT && !read_in(c)) || !write_out(c))
                hang_up(c);
        }
    }
}
