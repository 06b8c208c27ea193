/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load of unary gRPC calls, many different ones in turn, whose latency is counted from when each was meant to be sent.
 *
 *     open_loop --address HOST:PORT|unix:PATH --path /package.Service/Method --requests FILE [options]
 *
 * With --rate, calls fall due at random (Poisson) at that rate whatever the server does, so that a stall of the server
 * is not hidden by a client that waits for it. Where this program itself did not run for a while, it says so: the calls
 * of such a stall are counted apart. Without --rate, each connection keeps --streams calls under way.
 *
 * FILE holds the serialized requests, each behind its length as 4 bytes, little endian. The figures are printed as one
 * JSON object; times in it are microseconds. The exit status is 0 whatever the server did.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 262144,
    WRITE_BYTES = 262144,
    MOST_CONNECTIONS = 256,
    MOST_HEADERS = 16,
    MOST_AT_ONCE = 32,  /* Calls that are begun before answers are looked for again. */
    STEPS = 32,         /* Steps of a histogram in each octave of nanoseconds, 3 % each. */
    BUCKETS = 64 * STEPS,
};
#define SECOND 1000000000ULL

struct call {
    uint64_t intended; /* When it was to be sent, in nanoseconds of the monotonic clock. */
    const uint8_t *body;
    uint32_t length, done, got;
    int is_sent, is_answered, is_ok, is_counted;
    struct call *next;
};

struct connection {
    int fd, waits_to_write, is_over, is_told_to_go;
    int32_t last_stream; /* The last one that the server works on, once it has said so. */
    unsigned under_way;
    nghttp2_session *session;
    size_t begin, end;
    uint8_t out[WRITE_BYTES];
};

struct histogram {
    uint64_t count[BUCKETS], total, sum, greatest;
};

static struct {
    const char *address, *path, *requests, *log;
    unsigned connections, streams;
    unsigned long long count, seed, stall;
    double rate, seconds, warm_up, patience;
    int sleeps;
} options = {.connections = 4, .streams = 16, .seed = 1, .stall = 250000, .seconds = 1e9, .patience = 5};

static int poller;
static struct connection connections[MOST_CONNECTIONS];
static nghttp2_nv headers[8 + MOST_HEADERS];
static size_t header_count;
static uint8_t **bodies; /* Each with the five bytes that stand before a gRPC message. */
static uint32_t *lengths;
static size_t body_count, next_body;
static struct call *unused_calls;
static struct histogram undisturbed, all, lateness;
static uint64_t begun, answered, not_ok, refused, lost, answer_bytes, stalls, stalled, disturbed;
static uint64_t disturbed_until, counts_from, last_answer;
static unsigned under_way;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static size_t bucket_of(uint64_t value) {
    int octave;
    if (value < STEPS)
        return (size_t)value;
    octave = 63 - __builtin_clzll(value);
    return (size_t)(octave - 4) * STEPS + (size_t)(value >> (octave - 5)) - STEPS;
}

static uint64_t bucket_end(size_t bucket) {
    if (bucket < STEPS)
        return bucket;
    return ((uint64_t)(bucket % STEPS + STEPS + 1) << (bucket / STEPS - 1)) - 1;
}

static void record(struct histogram *into, uint64_t value) {
    into->count[bucket_of(value)]++;
    into->total++;
    into->sum += value;
    if (value > into->greatest)
        into->greatest = value;
}

static double percentile(const struct histogram *of, double share) {
    uint64_t wanted = (uint64_t)(share * (double)of->total), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        if ((seen += of->count[i]) > wanted)
            return (double)(bucket_end(i) < of->greatest ? bucket_end(i) : of->greatest) / 1000;
    return 0;
}

/* A number above 0 and up to 1, always the same ones for a seed (xorshift64*). */
static double any_number(void) {
    static uint64_t state;
    if (state == 0)
        state = options.seed * 0x9E3779B97F4A7C15ULL | 1;
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return ((double)((state * 0x2545F4914F6CDD1DULL) >> 11) + 1) / 9007199254740992.0;
}

static void add_header(const char *name, const char *value) {
    headers[header_count++] = (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

static void read_requests(void) {
    FILE *file = fopen(options.requests, "rb");
    size_t room = 0;
    uint32_t length;
    if (file == NULL)
        die(options.requests);
    while (fread(&length, 4, 1, file) == 1) {
        if (body_count == room) {
            room = 2 * room + 1024;
            bodies = realloc(bodies, room * sizeof *bodies);
            lengths = realloc(lengths, room * sizeof *lengths);
        }
        if (bodies == NULL || lengths == NULL || (bodies[body_count] = malloc(5 + (size_t)length)) == NULL)
            die("no memory");
        lengths[body_count] = 5 + length;
        bodies[body_count][0] = 0;
        for (int i = 0; i < 4; i++)
            bodies[body_count][1 + i] = (uint8_t)(length >> (24 - 8 * i));
        if (fread(bodies[body_count] + 5, 1, length, file) != length) {
            body_count = 0;
            break;
        }
        body_count++;
    }
    if (body_count == 0 || ferror(file)) {
        fprintf(stderr, "%s: it does not hold requests, each behind its length\n", options.requests);
        exit(2);
    }
    fclose(file);
}

static ssize_t give_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t room, uint32_t *flags,
                         nghttp2_data_source *source, void *connection) {
    struct call *call = source->ptr;
    /* The room is less than a frame where the window of the connection is nearly used up. */
    uint32_t left = call->length - call->done, count = left < room ? left : (uint32_t)room;
    (void)session, (void)stream, (void)connection;
    memcpy(buffer, call->body + call->done, count);
    call->done += count;
    if (count == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)count;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t length, uint8_t flags, void *connection) {
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags, (void)connection;
    if (call != NULL && name_length == 11 && memcmp(name, "grpc-status", 11) == 0)
        call->is_ok = length == 1 && value[0] == '0';
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *piece, size_t length,
                   void *connection) {
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    (void)flags, (void)piece, (void)connection;
    if (call != NULL)
        call->got += (uint32_t)length;
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
    struct connection *c = user;
    struct call *call;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        c->is_told_to_go = 1;
        c->last_stream = frame->goaway.last_stream_id;
    } else if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM && frame->hd.stream_id != 0 &&
               (call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)) != NULL)
        call->is_answered = 1;
    return 0;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *connection) {
    struct call *call;
    (void)connection;
    if (frame->hd.type == NGHTTP2_HEADERS &&
        (call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)) != NULL)
        call->is_sent = 1;
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *user) {
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    struct connection *c = user;
    uint64_t taken;
    if (call == NULL)
        return 0;
    c->under_way--;
    under_way--;
    if (call->is_answered) {
        last_answer = clock_ns();
        taken = last_answer - call->intended;
        answered++;
        answer_bytes += call->got;
        if (!call->is_ok)
            not_ok++;
        if (call->is_counted) {
            record(&all, taken);
            if (call->intended < disturbed_until)
                disturbed++;
            else
                record(&undisturbed, taken);
        }
    } else if (!call->is_sent || error == NGHTTP2_REFUSED_STREAM || (c->is_told_to_go && stream > c->last_stream)) {
        /* It never left, or the server has said that it did not begin with it: it may be sent again elsewhere. */
        refused++;
    } else {
        lost++;
    }
    call->next = unused_calls;
    unused_calls = call;
    return 0;
}

static void begin_call(struct connection *c, uint64_t intended) {
    struct call *call = unused_calls;
    nghttp2_data_provider provider = {.read_callback = give_body};
    if (call == NULL && (call = malloc(sizeof *call)) == NULL)
        die("no memory");
    if (call == unused_calls)
        unused_calls = call->next;
    *call = (struct call){.intended = intended, .body = bodies[next_body], .length = lengths[next_body],
                          .is_counted = intended >= counts_from};
    next_body = (next_body + 1) % body_count;
    provider.source.ptr = call;
    if (nghttp2_submit_request(c->session, NULL, headers, header_count, &provider, call) < 0) {
        c->is_told_to_go = 1;
        call->next = unused_calls;
        unused_calls = call;
        return;
    }
    begun++;
    c->under_way++;
    under_way++;
}

static void watch(struct connection *c, int change, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, change, c->fd, &event) != 0)
        die("epoll_ctl");
}

static void end_connection(struct connection *c) {
    c->is_over = 1;
    /* Closes its streams, but tells nobody: what was under way is lost, unless the server had disowned it. */
    for (int32_t stream = 1; c->under_way > 0 && stream < 0x7FFFFFFE; stream += 2) {
        struct call *call = nghttp2_session_get_stream_user_data(c->session, stream);
        if (call != NULL)
            on_close(c->session, stream, NGHTTP2_NO_ERROR, c);
        else if ((uint32_t)stream >= nghttp2_session_get_next_stream_id(c->session))
            break;
    }
    /* What was not even sent has no stream yet. */
    refused += c->under_way;
    under_way -= c->under_way;
    c->under_way = 0;
    nghttp2_session_del(c->session);
    close(c->fd);
}

static int write_out(struct connection *c) {
    const uint8_t *piece;
    ssize_t size = 1, written;
    while (size > 0) {
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
    ssize_t size = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0)
        return errno == EAGAIN || errno == EINTR;
    return size > 0 && nghttp2_session_mem_recv(c->session, buffer, (size_t)size) == size;
}

static void connect_to(struct connection *c, const nghttp2_session_callbacks *callbacks) {
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET};
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                         {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (1U << 30) - 1}};
    int one = 1, is_local = strncmp(options.address, "unix:", 5) == 0;
    char host[64] = "";
    unsigned port = 0;
    c->fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (is_local) {
        strncpy(local.sun_path, options.address + 5, sizeof local.sun_path - 1);
        if (connect(c->fd, (struct sockaddr *)&local, sizeof local) != 0)
            die(options.address);
    } else {
        if (sscanf(options.address, "%63[0-9.]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &inet.sin_addr) != 1) {
            fprintf(stderr, "no address: %s\n", options.address);
            exit(2);
        }
        inet.sin_port = htons((uint16_t)port);
        if (connect(c->fd, (struct sockaddr *)&inet, sizeof inet) != 0)
            die(options.address);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (nghttp2_session_client_new(&c->session, callbacks, c) != 0)
        die("no memory");
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, (1 << 30) - 1);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* Begins what is due in the open loop, or what there is room for in the closed one. */
static void begin_calls(uint64_t now, uint64_t *due, uint64_t until) {
    static unsigned turn;
    struct connection *c;
    unsigned at_once = 0, passed = 0;
    if (options.rate > 0) {
        while (*due <= now && *due < until && at_once < MOST_AT_ONCE && passed < options.connections) {
            c = &connections[turn++ % options.connections];
            if (c->is_over || c->is_told_to_go) {
                passed++;
                continue;
            }
            passed = 0;
            record(&lateness, now - *due);
            begin_call(c, *due);
            *due += (uint64_t)(-log(any_number()) * (double)SECOND / options.rate) + 1;
            at_once++;
        }
        return;
    }
    for (unsigned i = 0; i < options.connections; i++) {
        c = &connections[i];
        while (!c->is_over && !c->is_told_to_go && c->under_way < options.streams && now < until &&
               (options.count == 0 || begun < options.count))
            begin_call(c, now);
    }
}

static int nobody_serves(void) {
    for (unsigned i = 0; i < options.connections; i++)
        if (!connections[i].is_over && !connections[i].is_told_to_go)
            return 0;
    return 1;
}

/* Milliseconds that epoll_wait may take: none, unless we are to leave the processor to others meanwhile. */
static int wait_for(uint64_t now, uint64_t due) {
    if (!options.sleeps && options.rate > 0)
        return 0;
    if (options.rate > 0 && due < now + 9000000)
        return due > now ? (int)((due - now) / 1000000) + 1 : 0;
    return 10;
}

static void run(void) {
    struct epoll_event events[MOST_CONNECTIONS];
    uint64_t now = clock_ns(), start = now, before = now, due = now;
    uint64_t until = start + (uint64_t)((options.warm_up + options.seconds) * SECOND), latest = 0;
    uint64_t measured;
    last_answer = now;
    counts_from = start + (uint64_t)(options.warm_up * SECOND);
    for (;;) {
        now = clock_ns();
        if (options.rate > 0 && !options.sleeps && now - before > options.stall) {
            /* We did not run. At half of the server's load it takes as long again to work off what gathered. */
            disturbed_until = now + (now - before);
            if (now >= counts_from)
                stalls++, stalled += now - before;
        }
        before = now;
        begin_calls(now, &due, until);
        for (unsigned i = 0; i < options.connections; i++)
            if (!connections[i].is_over && !connections[i].waits_to_write && !write_out(&connections[i]))
                end_connection(&connections[i]);
        if (now >= until || nobody_serves() || (options.count != 0 && options.rate <= 0 && begun >= options.count)) {
            if (under_way == 0)
                break;
            if (latest == 0)
                latest = now + (uint64_t)(options.patience * SECOND);
            if (now > latest)
                break;
        }
        int ready = epoll_wait(poller, events, MOST_CONNECTIONS, wait_for(now, due));
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c->is_over && ((events[i].events & ~(uint32_t)EPOLLOUT && !read_in(c)) || !write_out(c)))
                end_connection(c);
        }
    }
    lost += under_way;
    measured = last_answer > counts_from ? last_answer - counts_from : 1;
    printf("{\"begun\": %llu, \"answered\": %llu, \"not_ok\": %llu, \"refused\": %llu, \"lost\": %llu,\n",
           (unsigned long long)begun, (unsigned long long)answered, (unsigned long long)not_ok,
           (unsigned long long)refused, (unsigned long long)lost);
    printf(" \"told_to_go\": %s, \"answer_bytes\": %llu, \"seconds\": %.6f, \"requests_per_s\": %.1f,\n",
           nobody_serves() ? "true" : "false", (unsigned long long)answer_bytes, (double)measured / SECOND,
           (double)all.total * SECOND / (double)measured);
    printf(" \"stalls\": %llu, \"stalled_s\": %.6f, \"disturbed\": %llu, \"late_us_p99\": %.1f,\n",
           (unsigned long long)stalls, (double)stalled / SECOND, (unsigned long long)disturbed,
           percentile(&lateness, 0.99));
    for (int i = 0; i < 2; i++) {
        const struct histogram *of = i == 0 ? &undisturbed : &all;
        printf(" \"%s\": {\"count\": %llu, \"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f,"
               " \"max\": %.1f}%s\n",
               i == 0 ? "undisturbed_us" : "all_us", (unsigned long long)of->total,
               of->total ? (double)of->sum / (double)of->total / 1000 : 0, percentile(of, 0.5), percentile(of, 0.9),
               percentile(of, 0.99), percentile(of, 0.999), (double)of->greatest / 1000, i == 0 ? "," : "}");
    }
}

static void write_log(void) {
    FILE *file = fopen(options.log, "w");
    if (file == NULL)
        die(options.log);
    fprintf(file, "up_to_ns,undisturbed,all\n");
    for (size_t i = 0; i < BUCKETS; i++)
        if (all.count[i])
            fprintf(file, "%llu,%llu,%llu\n", (unsigned long long)bucket_end(i),
                    (unsigned long long)undisturbed.count[i], (unsigned long long)all.count[i]);
    if (fclose(file) != 0)
        die(options.log);
}

static void usage(void) {
    fprintf(stderr, "usage: open_loop --address A --path P --requests FILE [--header 'NAME: VALUE']... "
                    "[--connections N] [--streams N] [--rate PER_SECOND] [--count N] [--seconds S] [--warm-up S] "
                    "[--patience S] [--seed N] [--stall-us N] [--sleep] [--log FILE]\n");
    exit(2);
}

static void read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"address", 1, NULL, 'a'}, {"path", 1, NULL, 'p'},      {"requests", 1, NULL, 'f'},
        {"header", 1, NULL, 'H'},  {"connections", 1, NULL, 'c'}, {"streams", 1, NULL, 'm'},
        {"rate", 1, NULL, 'r'},    {"count", 1, NULL, 'n'},     {"seconds", 1, NULL, 'd'},
        {"warm-up", 1, NULL, 'w'}, {"patience", 1, NULL, 'P'},  {"seed", 1, NULL, 's'},
        {"stall-us", 1, NULL, 'S'}, {"sleep", 0, NULL, 'z'},    {"log", 1, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    char *colon;
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        switch (option) {
        case 'a': options.address = optarg; break;
        case 'p': options.path = optarg; break;
        case 'f': options.requests = optarg; break;
        case 'c': options.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'm': options.streams = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'r': options.rate = strtod(optarg, NULL); break;
        case 'n': options.count = strtoull(optarg, NULL, 10); break;
        case 'd': options.seconds = strtod(optarg, NULL); break;
        case 'w': options.warm_up = strtod(optarg, NULL); break;
        case 'P': options.patience = strtod(optarg, NULL); break;
        case 's': options.seed = strtoull(optarg, NULL, 10); break;
        case 'S': options.stall = 1000 * strtoull(optarg, NULL, 10); break;
        case 'z': options.sleeps = 1; break;
        case 'l': options.log = optarg; break;
        case 'H':
            colon = strchr(optarg, ':');
            if (colon == NULL || colon[1] != ' ' || header_count == MOST_HEADERS)
                usage();
            *colon = '\0';
            add_header(optarg, colon + 2);
            break;
        default: usage();
        }
    }
    if (options.address == NULL || options.path == NULL || options.requests == NULL || optind != count ||
        options.connections < 1 || options.connections > MOST_CONNECTIONS || options.streams < 1 ||
        (options.count == 0 && options.seconds > 1e8))
        usage();
}

int main(int count, char **arguments) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_nv given[MOST_HEADERS];
    size_t given_count;
    read_options(count, arguments);
    read_requests();
    given_count = header_count;
    memcpy(given, headers, sizeof given);
    header_count = 0;
    add_header(":method", "POST");
    add_header(":scheme", "http");
    add_header(":path", options.path);
    add_header(":authority", "localhost");
    add_header("content-type", "application/grpc");
    add_header("te", "trailers");
    memcpy(headers + header_count, given, given_count * sizeof *given);
    header_count += given_count;
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        die("no memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    for (unsigned i = 0; i < options.connections; i++)
        connect_to(&connections[i], callbacks);
    run();
    if (options.log != NULL)
        write_log();
    return 0;
}
