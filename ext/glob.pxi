# SPDX-License-Identifier: Apache-2.0
# Wildcard matching in linear passes, and ARNs matched field by field.

# An ARN cut at its first five colons.
cdef struct ArnText:
    const uint8_t *data
    uint32_t len
    uint32_t colons[5]  # offsets


cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t text_len, const void *part, size_t part_len)


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


cdef inline uint32_t character_length(const uint8_t *text, uint32_t length) noexcept nogil:
    # Bytes of the UTF-8 character that begins the text.
    cdef uint32_t size = 1
    while size < length and text[size] & 0xC0 == 0x80:
        size += 1
    return size


cdef int64_t part_match(const uint8_t *part, uint32_t part_len, const uint8_t *text, uint32_t text_len) noexcept nogil:
    # How many bytes of the text's beginning a part without stars matches, or -1.
    cdef uint32_t p
    cdef uint32_t t = 0
    for p in range(part_len):
        if t == text_len:
            return -1
        if part[p] == WILD_CHAR:
            # One character, not one byte: a sequence starts where its first byte stands.
            if text[t] & 0xC0 == 0x80:
                return -1
            t += character_length(text + t, text_len - t)
        elif part[p] == text[t]:
            t += 1
        else:
            return -1
    return t


cdef bint part_ends(const uint8_t *part, uint32_t part_len, const uint8_t *text, uint32_t text_len) noexcept nogil:
    # Whether a part without stars matches the text's end.
    cdef uint32_t p = part_len
    cdef uint32_t t = text_len
    while p:
        p -= 1
        if t == 0:
            return False
        t -= 1
        if part[p] == WILD_CHAR:
            while text[t] & 0xC0 == 0x80:
                if t == 0:
                    return False
                t -= 1
        elif part[p] != text[t]:
            return False
    return True


cdef int64_t part_find(const uint8_t *part, uint32_t part_len, const uint8_t *text, uint32_t text_len) noexcept nogil:
    # Where behind its first match in the text a part without stars ends, or -1. A part without `?` is found in
    # linear time; with one, the work is bounded by the product of the lengths.
    cdef const uint8_t *found
    cdef int64_t size
    cdef uint32_t t = 0
    if memchr(part, WILD_CHAR, part_len) == NULL:
        found = <const uint8_t *>memmem(text, text_len, part, part_len)
        return -1 if found == NULL else (found - text) + part_len
    while t < text_len:
        size = part_match(part, part_len, text + t, text_len - t)
        if size >= 0:
            return t + size
        t += character_length(text + t, text_len - t)
    return -1


cdef bint glob_match(const uint8_t *pattern, uint32_t pattern_len, const uint8_t *text, uint32_t text_len) noexcept nogil:
    # The part before the first star matches the beginning, that behind the last one the end, and each between them the first
    # place that it can: a later place would leave less for the rest, so nothing is ever tried again.
    cdef const uint8_t *star = <const uint8_t *>memchr(pattern, WILD_RUN, pattern_len)
    cdef int64_t size
    cdef uint32_t head
    if star == NULL:
        return part_match(pattern, pattern_len, text, text_len) == text_len
    head = <uint32_t>(star - pattern)
    size = part_match(pattern, head, text, text_len)
    if size < 0:
        return False
    while True:
        text += size
        text_len -= <uint32_t>size
        pattern += head + 1
        pattern_len -= head + 1
        star = <const uint8_t *>memchr(pattern, WILD_RUN, pattern_len)
        if star == NULL:
            return part_ends(pattern, pattern_len, text, text_len)
        head = <uint32_t>(star - pattern)
        size = part_find(pattern, head, text, text_len) if head else 0
        if size < 0:
            return False


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
