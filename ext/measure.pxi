# SPDX-License-Identifier: Apache-2.0
# Measuring the core from inside, for tests/bench: a call from Python costs more than a decision.

cdef extern from *:
    """
    #include <time.h>
    #if defined(__x86_64__)
    #include <x86intrin.h>
    /* The fence keeps the measured code from leaking over the reading. */
    static inline uint64_t read_ticks(void) { uint64_t t; _mm_lfence(); t = __rdtsc(); _mm_lfence(); return t; }
    #else
    static inline uint64_t read_ticks(void) {
        struct timespec now; clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    #endif
    static inline uint64_t read_nanos(void) {
        struct timespec now; clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    """
    uint64_t read_ticks() nogil
    uint64_t read_nanos() nogil


cdef uint64_t clock_floor() noexcept nogil:
    # What reading the clock costs at least, in ticks.
    cdef uint64_t least = ~<uint64_t>0
    cdef uint64_t start
    cdef uint32_t i
    for i in range(1000):
        start = read_ticks()
        start = read_ticks() - start
        if start < least:
            least = start
    return least


cdef void measure_all(
    const ImageView *image,
    Opener *opener,
    Narrow *narrow,
    const uint8_t *data,
    const uint32_t *lengths,
    uint32_t count,
    int64_t seconds,
    bint whole,
    uint64_t *ticks,
    uint64_t *decisions,
) noexcept nogil:
    # Time each request once: the decision alone, or *whole* from request bytes to answer bytes.
    cdef Request request
    cdef ShadowRoom room
    cdef Fault fault
    cdef Eval e
    cdef Layers layers
    cdef MfaAnswer mfa
    cdef Outcome result
    cdef Reader reader
    cdef uint8_t[ANSWER_MOST] out
    cdef uint64_t start
    cdef uint64_t now = clock_monotonic()
    cdef uint32_t i
    cdef uint8_t *end
    for i in range(count):
        fault.field = NULL
        if whole:
            start = read_ticks()
            end = NULL
            if question_read(
                image, opener, narrow, slice_of(data, lengths[i]), seconds, 0, now, &e, &request, &fault
            ):
                end = question_answer(&e, &request, &room, out, &result, &fault)
            ticks[i] = read_ticks() - start
            if end != NULL:
                decisions[result.decision & 3] += 1
        else:
            request_clear(&request)
            reader = reader_of(slice_of(data, lengths[i]))
            eval_clear(&e, image, &request, seconds, 0)
            if not read_authorize(&reader, &request, &fault):
                break
            if request.has_session_token:
                token_take(&e, &request, opener, narrow, now)
            if request_read(&e, &request, &fault):
                start = read_ticks()
                result = decide(&e, &request, &layers, &mfa, &fault)
                ticks[i] = read_ticks() - start
                decisions[result.decision & 3] += 1
        data += lengths[i]


def measure(Image image, bytes requests, lengths, *, int64_t seconds, bint whole, SessionState sessions=None):
    """
    Decide each request once and return what each took.

    Args:
        requests: Serialized ``AuthorizeRequest`` messages, one behind the other.
        lengths: An ``array("I")`` of their lengths.
        whole: Measure from request bytes to answer bytes, not the decision alone.
        sessions: What session tokens are opened with.

    Returns:
        Nanoseconds of each request as an ``array("d")``, less the cost of reading the clock; that cost in nanoseconds;
        and how many were answered with each decision, by its number.
    """
    cdef const uint32_t[::1] sizes = lengths
    cdef uint32_t count = sizes.shape[0]
    cdef uint64_t[4] decisions
    cdef uint64_t begun_ticks
    cdef uint64_t begun_nanos
    cdef uint64_t least
    cdef uint64_t spent
    from array import array

    cdef Opener *opener = NULL
    cdef Narrow *narrow = NULL
    if sessions is not None:
        opener = &sessions.desk.tokens.opener
        narrow = &sessions.desk.tokens.narrow
    if sum(lengths) != len(requests):
        raise ValueError("the lengths do not add up to the requests")
    cdef const uint8_t *data = <const uint8_t *><const char *>requests
    ticks = array("Q", bytes(8 * count))
    cdef uint64_t[::1] view = ticks
    memset(decisions, 0, sizeof(decisions))
    with nogil:
        begun_nanos = read_nanos()
        begun_ticks = read_ticks()
        measure_all(
            &image.view, opener, narrow, data, &sizes[0], count, seconds, whole, &view[0], decisions
        )
        spent = read_ticks() - begun_ticks
        begun_nanos = read_nanos() - begun_nanos
        least = clock_floor()
    cdef double scale = <double>begun_nanos / <double>(spent if spent else 1)
    floor = least
    return array("d", [max(0, tick - floor) * scale for tick in ticks]), least * scale, list(decisions)


cdef uint64_t measure_matches(
    const ImageView *image, const uint8_t *data, const uint32_t *lengths, uint32_t count, bint whole, Resolution *all, uint64_t *ticks
) noexcept nogil:
    # Time each request once: reading its target and finding its route, or *whole* up to the question that it is. How many
    # took a route.
    cdef Fault fault
    cdef uint64_t start
    cdef uint64_t found = 0
    cdef uint32_t i
    cdef Slice nothing = slice_of(NULL, 0)
    for i in range(count):
        fault.field = NULL
        ticks[i] = 0
        if attributes_read(slice_of(data, lengths[i]), &all.attributes, &fault):
            start = read_ticks()
            if whole:
                found += resolve(image, nothing, all) == REASON_UNSPECIFIED
            elif target_read(&all.target, all.attributes.path, image.route_settings.flags):
                found += route_find(image, all.attributes.method, all.attributes.host, &all.target, &all.match)
            ticks[i] = read_ticks() - start
        data += lengths[i]
    return found


def measure_routes(Image image, bytes requests, lengths, *, bint whole):
    """
    Find the route of each request once and return what each took.

    Args:
        image: One with routes.
        requests: Serialized ``CheckRequest`` messages, one behind the other.
        lengths: An ``array("I")`` of their lengths.
        whole: Measure caller and templates too, not only reading the target and finding the route.

    Returns:
        Nanoseconds of each request as an ``array("d")``, less the cost of reading the clock; and how many took a route.
    """
    cdef const uint32_t[::1] sizes = lengths
    cdef uint32_t count = sizes.shape[0]
    cdef uint64_t begun_ticks
    cdef uint64_t begun_nanos
    cdef uint64_t least
    cdef uint64_t spent
    cdef uint64_t found
    cdef Resolution *all
    from array import array

    if sum(lengths) != len(requests):
        raise ValueError("the lengths do not add up to the requests")
    if image.view.counts[SECTION_ROUTE_SETTINGS] == 0:
        raise ValueError("the image has no routes")
    cdef const uint8_t *data = <const uint8_t *><const char *>requests
    ticks = array("Q", bytes(8 * count))
    cdef uint64_t[::1] view = ticks
    all = <Resolution *>calloc(1, sizeof(Resolution))
    if all == NULL or not crypto_make(&all.crypto):
        free(all)
        raise MemoryError
    with nogil:
        begun_nanos = read_nanos()
        begun_ticks = read_ticks()
        found = measure_matches(&image.view, data, &sizes[0], count, whole, all, &view[0])
        spent = read_ticks() - begun_ticks
        begun_nanos = read_nanos() - begun_nanos
        least = clock_floor()
        crypto_clear(&all.crypto)
        free(all)
    cdef double scale = <double>begun_nanos / <double>(spent if spent else 1)
    floor = least
    return array("d", [max(0, tick - floor) * scale for tick in ticks]), found


def measure_memory(uint64_t size, uint32_t steps=1000000):
    """
    Return the nanoseconds of one load that depends on the one before, at random in *size* bytes of huge pages.

    What a decision costs beyond its instructions is a handful of these.
    """
    cdef ImageMemory memory
    cdef uint64_t lines = size // 64
    cdef uint64_t state = 88172645463325252ULL
    cdef uint64_t i
    cdef uint64_t k
    cdef uint64_t place = 0
    cdef uint64_t begun
    cdef uint64_t *order
    cdef uint64_t swapped
    if lines < 2 or size > IMAGE_MAX_BYTES:
        raise ValueError("from 128 bytes to 2 GiB")
    if not memory_take(&memory, size):
        raise MemoryError
    order = <uint64_t *>malloc(8 * lines)
    if order == NULL:
        munmap(memory.start, memory.mapped)
        raise MemoryError
    with nogil:
        for i in range(lines):
            order[i] = i
        for i in range(lines - 1, 0, -1):
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            k = state % i
            swapped = order[i]
            order[i] = order[k]
            order[k] = swapped
        for i in range(lines):
            (<uint64_t *>(memory.data + 64 * order[i]))[0] = 64 * order[(i + 1) % lines]
        for i in range(lines):
            place = (<uint64_t *>(memory.data + place))[0]
        begun = read_nanos()
        for i in range(steps):
            place = (<uint64_t *>(memory.data + place))[0]
        begun = read_nanos() - begun
    free(order)
    munmap(memory.start, memory.mapped)
    # The last place is used, so that the loads are not left out.
    return begun / <double>steps if place <= size else 0.0
