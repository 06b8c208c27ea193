# SPDX-License-Identifier: Apache-2.0
# Slices of bytes: hashing, case folding, UTF-8.

cdef extern from *:
    """
    #define LIKELY(x) __builtin_expect(!!(x), 1)
    #define UNLIKELY(x) __builtin_expect(!!(x), 0)
    #define PREFETCH(p) __builtin_prefetch(p)
    """
    void PREFETCH(const void *p) nogil
    bint LIKELY(bint x) nogil
    bint UNLIKELY(bint x) nogil


# A run of bytes owned by somebody else: the request's buffer, the image or a scratch buffer.
cdef struct Slice:
    const uint8_t *data
    uint32_t len


cdef inline Slice slice_of(const uint8_t *data, uint32_t length) noexcept nogil:
    cdef Slice result
    result.data = data
    result.len = length
    return result


cdef inline Slice slice_literal(const char *text, uint32_t length) noexcept nogil:
    return slice_of(<const uint8_t *>text, length)


cdef inline bint slice_equals(Slice one, const uint8_t *data, uint32_t length) noexcept nogil:
    return one.len == length and memcmp(one.data, data, length) == 0


cdef inline uint64_t load_word(const uint8_t *data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return word


cdef inline uint32_t hash_text(const uint8_t *data, size_t length) noexcept nogil:
    # The same as sidecar.compile.layout.hash_text.
    cdef uint64_t multiplier = 0x9E3779B97F4A7C15ULL
    cdef uint64_t value = <uint64_t>length * multiplier
    cdef uint64_t word = 0
    cdef size_t offset = 0
    if length < 8:
        memcpy(&word, data, length)
        value = (value ^ word) * multiplier
    else:
        while offset + 8 < length:
            value = (value ^ load_word(data + offset)) * multiplier
            value ^= value >> 32
            offset += 8
        # SAFETY: length >= 8, so the last word starts inside.
        value = (value ^ load_word(data + length - 8)) * multiplier
    return <uint32_t>(value >> 32) ^ (<uint32_t>(value >> 7))


cdef inline uint64_t load_tail(const uint8_t *data, size_t length) noexcept nogil:
    # The last 1 to 7 bytes of a text as a word, filled up with a plain character.
    cdef uint64_t word = 0x2020202020202020ULL
    memcpy(&word, data, length)
    return word


cdef inline bint fold_ascii(const uint8_t *data, uint32_t length, uint8_t *out) noexcept nogil:
    # Lower case of the ASCII letters of a text, eight bytes at a time. *out* has room for length + 8. Returns whether
    # the text is all ASCII.
    cdef uint64_t word
    cdef uint64_t plain
    cdef uint64_t upper
    cdef uint64_t high = 0
    cdef uint32_t i = 0
    while i < length:
        if length - i >= 8:
            word = load_word(data + i)
        else:
            word = load_tail(data + i, length - i)
        # Bit 7 of each ASCII byte that lies between `A` and `Z`; with bit 7 taken out no byte carries into the next.
        plain = word & 0x7F7F7F7F7F7F7F7FULL
        upper = (plain + 0x3F3F3F3F3F3F3F3FULL) & ~(plain + 0x2525252525252525ULL) & ~word & 0x8080808080808080ULL
        high |= word
        word |= upper >> 2
        memcpy(out + i, &word, 8)
        i += 8
    return high & 0x8080808080808080ULL == 0


cdef inline uint8_t fold_byte(uint8_t c) noexcept nogil:
    return c + 32 if 65 <= c <= 90 else c


cdef void fold_text(const uint8_t *data, uint32_t length, uint8_t *out) noexcept nogil:
    # Lower case of A-Z and of the letters U+00C0 to U+00DE, the only ones that a policy can hold.
    # In UTF-8 the latter are 0xC3 followed by 0x80 to 0x9E; 0x97 is the multiplication sign. *out* has room for length + 8.
    cdef uint32_t i
    cdef uint8_t c
    if LIKELY(fold_ascii(data, length, out)):
        return
    for i in range(1, length):
        c = data[i]
        if data[i - 1] == 0xC3 and 0x80 <= c <= 0x9E and c != 0x97:
            out[i] = c + 32


cdef bint equals_folded(const uint8_t *one, const uint8_t *other, uint32_t length) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t a
    cdef uint8_t b
    cdef uint8_t before_a = 0
    cdef uint8_t before_b = 0
    cdef uint8_t folded_a
    cdef uint8_t folded_b
    for i in range(length):
        a = one[i]
        b = other[i]
        folded_a = a + 32 if before_a == 0xC3 and 0x80 <= a <= 0x9E and a != 0x97 else fold_byte(a)
        folded_b = b + 32 if before_b == 0xC3 and 0x80 <= b <= 0x9E and b != 0x97 else fold_byte(b)
        if folded_a != folded_b:
            return False
        before_a = a
        before_b = b
    return True


cdef enum:
    TEXT_INVALID = 0
    TEXT_VALID = 1
    TEXT_WITH_NUL = 2


cdef inline bint word_is_plain(uint64_t word) noexcept nogil:
    # Whether all eight bytes are ASCII and none is NUL. A borrow can only come from a byte that is NUL.
    return ((word | (word - 0x0101010101010101ULL)) & 0x8080808080808080ULL) == 0


cdef bint utf8_valid(const uint8_t *data, size_t length) noexcept nogil:
    # SPEC: RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
    cdef size_t i = 0
    cdef uint64_t eight
    cdef uint8_t c
    cdef uint32_t more
    cdef uint32_t k
    while i < length:
        # Nearly all of it is ASCII: eight letters at a time.
        if length - i >= 8:
            memcpy(&eight, data + i, 8)
            if eight & 0x8080808080808080ULL == 0:
                i += 8
                continue
        c = data[i]
        if c < 0x80:
            i += 1
            continue
        if 0xC2 <= c <= 0xDF:
            more = 1
        elif 0xE0 <= c <= 0xEF:
            more = 2
        elif 0xF0 <= c <= 0xF4:
            more = 3
        else:
            return False
        if length - i <= more:
            return False
        for k in range(1, more + 1):
            if data[i + k] & 0xC0 != 0x80:
                return False
        if (c == 0xE0 and data[i + 1] < 0xA0) or (c == 0xED and data[i + 1] > 0x9F):
            return False
        if (c == 0xF0 and data[i + 1] < 0x90) or (c == 0xF4 and data[i + 1] > 0x8F):
            return False
        i += more + 1
    return True


cdef inline int text_check(const uint8_t *data, size_t length) noexcept nogil:
    # TEXT_*: whether it is UTF-8, and without NUL. Plain text, eight bytes at a time, is nearly all there is.
    cdef size_t i = 0
    while i + 8 <= length and word_is_plain(load_word(data + i)):
        i += 8
    if LIKELY(i == length or (length - i < 8 and word_is_plain(load_tail(data + i, length - i)))):
        return TEXT_VALID
    if not utf8_valid(data, length):
        return TEXT_INVALID
    return TEXT_VALID if memchr(data, 0, length) == NULL else TEXT_WITH_NUL


cdef inline uint32_t write_number(uint64_t number, uint8_t *out) noexcept nogil:
    # Decimal digits of number, at most 20.
    cdef uint8_t digits[20]
    cdef uint32_t count = 0
    cdef uint32_t i
    while True:
        digits[count] = 48 + <uint8_t>(number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    for i in range(count):
        out[i] = digits[count - 1 - i]
    return count


cdef extern from *:
    """
    static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char BASE64_OF_URLS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    """
    const char *BASE64
    const char *BASE64_OF_URLS


cdef uint32_t base64_write(const uint8_t *data, uint32_t length, const char *digits, uint8_t *out) noexcept nogil:
    # SPEC: RFC 4648, without padding. *out* has room for length * 4 / 3 + 4.
    cdef uint8_t *end = out
    cdef uint32_t word
    cdef uint32_t left
    cdef uint32_t i
    cdef uint32_t k
    for i in range(0, length, 3):
        left = min(length - i, <uint32_t>3)
        word = <uint32_t>data[i] << 16
        if left > 1:
            word |= <uint32_t>data[i + 1] << 8
        if left > 2:
            word |= data[i + 2]
        for k in range(left + 1):
            end[0] = digits[word >> (18 - 6 * k) & 63]
            end += 1
    return <uint32_t>(end - out)
