# SPDX-License-Identifier: Apache-2.0
# Wildcard matching in linear passes, and ARNs matched field by field.

# An ARN cut at its first five colons.
cdef struct ArnText:
    const uint8_t *data
    uint32_t len
    uint32_t colons[5]  # offsets


cdef extern from *:
    """
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif
    /* Offsets of the first five colons, sixteen bytes at a time where the machine can; 0: there are fewer. */
    static inline int find_colons(const uint8_t *data, uint32_t length, uint32_t *colons) {
        uint32_t found = 0, i = 0;
    #if defined(__SSE2__)
        const __m128i colon = _mm_set1_epi8(':');
        for (; i + 16 <= length; i += 16) {
            uint32_t mask = (uint32_t)_mm_movemask_epi8(
                _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(data + i)), colon));
            while (mask) {
                colons[found++] = i + (uint32_t)__builtin_ctz(mask);
                if (found == 5) return 1;
                mask &= mask - 1;
            }
        }
    #endif
        for (; i < length; i++)
            if (data[i] == ':') {
                colons[found++] = i;
                if (found == 5) return 1;
            }
        return 0;
    }
    """
    bint find_colons(const uint8_t *data, uint32_t length, uint32_t *colons) nogil


cdef inline bint arn_parse(const uint8_t *data, uint32_t length, ArnText *arn) noexcept nogil:
    # Whether the text is an ARN: six fields, the first of them `arn`.
    arn.data = data
    arn.len = length
    return length >= 8 and memcmp(data, b"arn:", 4) == 0 and find_colons(data, length, arn.colons)


cdef inline Slice arn_field(const ArnText *arn, uint32_t field) noexcept nogil:
    cdef uint32_t start = arn.colons[field - 1] + 1 if field else 0
    cdef uint32_t end = arn.colons[field] if field < 5 else arn.len
    return slice_of(arn.data + start, end - start)


cdef bint glob_match(const uint8_t *pattern, uint32_t pattern_len, const uint8_t *text, uint32_t text_len) noexcept nogil:
    # Two positions and one remembered star, so the work is bounded by the product of the lengths and
    # for patterns with short parts between stars grows with the text alone. It never branches out.
    cdef uint32_t p = 0       # next byte of the pattern
    cdef uint32_t t = 0       # next byte of the text
    cdef uint32_t star = 0    # behind the last star
    cdef uint32_t mark = 0    # where the text behind that star begins
    cdef bint have_star = False
    cdef uint8_t c
    while t < text_len:
        if p < pattern_len:
            c = pattern[p]
            if c == WILD_RUN:
                p += 1
                if p == pattern_len:
                    return True
                star = p
                mark = t
                have_star = True
                continue
            if c == WILD_CHAR:
                # One character, not one byte: a sequence starts where its first byte stands.
                if text[t] & 0xC0 != 0x80:
                    p += 1
                    t += 1
                    while t < text_len and text[t] & 0xC0 == 0x80:
                        t += 1
                    continue
            elif c == text[t]:
                p += 1
                t += 1
                continue
        if not have_star:
            return False
        mark += 1
        while mark < text_len and text[mark] & 0xC0 == 0x80:
            mark += 1
        p = star
        t = mark
    while p < pattern_len and pattern[p] == WILD_RUN:
        p += 1
    return p == pattern_len


cdef bint arn_glob(const uint8_t *pattern, uint32_t pattern_len, const ArnText *arn) noexcept nogil:
    # SPEC: IAM User Guide, elements_resource: wildcards stay within their field.
    cdef const uint8_t *colon
    cdef uint32_t start = 0
    cdef uint32_t text_start = 0
    cdef uint32_t field
    cdef uint32_t end
    for field in range(5):
        colon = <const uint8_t *>memchr(pattern + start, 58, pattern_len - start)
        if colon == NULL:
            return False
        end = <uint32_t>(colon - pattern)
        if not glob_match(
            pattern + start, end - start, arn.data + text_start, arn.colons[field] - text_start
        ):
            return False
        start = end + 1
        text_start = arn.colons[field] + 1
    return glob_match(pattern + start, pattern_len - start, arn.data + text_start, arn.len - text_start)


cdef inline bint pattern_match_text(const ImageView *image, const Pattern *pattern, const uint8_t *text, uint32_t length) noexcept nogil:
    # A pattern without variables against plain text.
    cdef const uint8_t *own = image.strings + pattern.text
    if pattern.kind == PATTERN_EXACT:
        return pattern.len == length and memcmp(own, text, length) == 0
    if pattern.kind == PATTERN_PREFIX:
        return pattern.len <= length and memcmp(own, text, pattern.len) == 0
    if pattern.kind == PATTERN_GLOB:
        if pattern.literal > length or memcmp(own, text, pattern.literal) != 0:
            return False
        return glob_match(own, pattern.len, text, length)
    return pattern.kind == PATTERN_ANY


cdef inline bint pattern_match_arn(const ImageView *image, const Pattern *pattern, const ArnText *arn) noexcept nogil:
    # A pattern without variables against an ARN.
    cdef const uint8_t *own = image.strings + pattern.text
    if pattern.kind == PATTERN_GLOB:
        if pattern.literal > arn.len or memcmp(own, arn.data, pattern.literal) != 0:
            return False
        return arn_glob(own, pattern.len, arn)
    return pattern_match_text(image, pattern, arn.data, arn.len)
