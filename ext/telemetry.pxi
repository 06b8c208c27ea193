# SPDX-License-Identifier: Apache-2.0
# What a thread tells of its work in plain memory: counters, histograms, and a ring of decision records.
#
# One thread writes, any thread may read at any time.

cdef extern from *:
    """
    #include <time.h>
    #define LEADING_ZEROS(value) __builtin_clzll(value)
    static inline uint64_t clock_nanos(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    #define clock_monotonic() clock_nanos(CLOCK_MONOTONIC)
    #define clock_realtime() clock_nanos(CLOCK_REALTIME)
    """
    uint32_t LEADING_ZEROS(uint64_t value) nogil
    uint64_t clock_monotonic() nogil  # nanoseconds
    uint64_t clock_realtime() nogil   # nanoseconds since the epoch

cdef enum:
    # Each power of two is cut into 16 steps, so a value is known to within 6.25 %. Below 16 ns each value is its own step.
    STEPS = 16
    STEP_BITS = 4
    # The last slot holds all from 64 seconds on.
    SLOTS = (36 - STEP_BITS) * STEPS + STEPS
    NANOS = 1000000000


# How long something took, in nanoseconds.
cdef struct Histogram:
    uint64_t sum
    uint64_t counts[SLOTS]


# Written by one thread.
cdef struct Telemetry:
    uint64_t decisions[4][LAYER_COUNT][REASON_WORDS_COUNT]
    uint64_t shadow[4][4]     # by the decision, and by what it would be with what stands in shadow
    Histogram reading
    Histogram deciding
    Histogram request         # of the data listener: from the socket to the socket
    uint64_t rpcs[METHOD_COUNT][RPC_COUNT]
    uint64_t told[CHECK_COUNT]  # to a proxy
    uint64_t batch_requests
    uint64_t limits[LIMIT_COUNT]
    uint64_t closed[CLOSE_COUNT]
    uint64_t accepted         # connections
    uint64_t connections      # open now
    uint64_t streams          # open now
    uint64_t parked           # streams that ever waited for a place in the ring


cdef inline uint32_t histogram_slot(uint64_t nanos) noexcept nogil:
    cdef uint32_t power
    if nanos < STEPS:
        return <uint32_t>nanos
    power = 63 - LEADING_ZEROS(nanos)
    if power >= 36:
        return SLOTS - 1
    return (power - STEP_BITS + 1) * STEPS + <uint32_t>(nanos >> (power - STEP_BITS) & (STEPS - 1))


cdef inline void histogram_add(Histogram *histogram, uint64_t nanos) noexcept nogil:
    count_add(&histogram.counts[histogram_slot(nanos)], 1)
    count_add(&histogram.sum, nanos)


cdef inline void decision_count(Telemetry *telemetry, Outcome result, uint32_t told, uint32_t shadow) noexcept nogil:
    # *told*: CHECK_*; CHECK_COUNT: no proxy asked. *shadow*: DECISION_*, if the same was asked with what stands in shadow.
    count_add(&telemetry.decisions[result.decision & 3][result.layer][result.reason], 1)
    if told < CHECK_COUNT:
        count_add(&telemetry.told[told], 1)
    if UNLIKELY(shadow != DECISION_UNSPECIFIED):
        count_add(&telemetry.shadow[result.decision & 3][shadow & 3], 1)


# What a decision record begins with; request, answer and note follow, then zeros up to a multiple of eight bytes. The note of
# a Check is texts with a NUL behind each: id of the route, id of the request, method, host and path.
# sidecar.transports.decision_records reads it.
cdef packed struct RecordHeader:
    uint32_t size             # of the whole record
    uint16_t worker
    uint8_t method            # METHOD_*
    uint8_t decision
    uint32_t request_len
    uint32_t answer_len
    int64_t time              # nanoseconds since the epoch, as policies saw it
    uint32_t read_ns
    uint32_t decide_ns
    uint64_t sequence         # of the worker, counted after sampling: a gap is a drop
    uint32_t note_len
    uint32_t reserved         # 0


# Records on their way from one writer to one reader.
# INVARIANT: tail <= head <= tail + size; both only grow, and each is written by its owner alone.
cdef struct Ring:
    uint8_t *data             # owned; NULL: no log is kept
    uint64_t size             # a power of two
    uint64_t head             # bytes ever written
    uint64_t tail             # bytes ever read
    uint64_t offered
    uint64_t sampled_out
    uint64_t dropped
    uint64_t bell             # head at which the reader wants to be woken; 0: it is awake


cdef inline uint64_t ring_room(const Ring *ring) noexcept nogil:
    return ring.size - (ring.head - atomic_get(&ring.tail))


cdef inline void ring_copy_in(Ring *ring, uint64_t place, const void *data, uint64_t length) noexcept nogil:
    # SAFETY: the caller asked ring_room, so [place, place + length) is nobody's.
    cdef uint64_t at = place & (ring.size - 1)
    cdef uint64_t first = ring.size - at
    if length <= first:
        memcpy(ring.data + at, data, length)
    else:
        memcpy(ring.data + at, data, first)
        memcpy(ring.data, <const uint8_t *>data + first, length - first)


cdef uint64_t ring_copy_out(Ring *ring, uint8_t *out, uint64_t most) noexcept nogil:
    # Whole records, as many as fit into *most* bytes; the reader's side.
    cdef uint64_t tail = ring.tail
    cdef uint64_t head = atomic_get(&ring.head)
    cdef uint64_t taken = 0
    cdef uint64_t at
    cdef uint32_t size
    while tail + taken != head:
        at = (tail + taken) & (ring.size - 1)
        # SAFETY: records start at multiples of eight, so the size of one never wraps.
        memcpy(&size, ring.data + at, sizeof(size))
        if taken + size > most:
            break
        taken += size
    at = tail & (ring.size - 1)
    if taken <= ring.size - at:
        memcpy(out, ring.data + at, taken)
    else:
        memcpy(out, ring.data + at, ring.size - at)
        memcpy(out + (ring.size - at), ring.data, taken - (ring.size - at))
    atomic_put(&ring.tail, tail + taken)
    return taken
