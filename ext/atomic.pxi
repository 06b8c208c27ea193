# SPDX-License-Identifier: Apache-2.0
# Words that several threads share. They are written whole, so a reader sees old or new numbers but never torn ones.

cdef extern from *:
    """
    #define ATOMIC_GET(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)
    #define ATOMIC_PUT(place, value) __atomic_store_n(place, value, __ATOMIC_RELEASE)
    #define ATOMIC_PEEK(place) __atomic_load_n(place, __ATOMIC_RELAXED)
    /* The one writer of a counter needs no locked instruction. */
    #define COUNT_ADD(place, value) \
        __atomic_store_n(place, __atomic_load_n(place, __ATOMIC_RELAXED) + (value), __ATOMIC_RELAXED)
    """
    uint64_t atomic_get "ATOMIC_GET" (const uint64_t *place) nogil
    void atomic_put "ATOMIC_PUT" (uint64_t *place, uint64_t value) nogil
    uint64_t atomic_peek "ATOMIC_PEEK" (const uint64_t *place) nogil
    void count_add "COUNT_ADD" (uint64_t *place, uint64_t value) nogil
