# SPDX-License-Identifier: Apache-2.0
# The target of a request, read as the upstream will read it, or not at all.
#
# There is one way to read what gets through here: what two programs are known to read in two ways is refused. The target is
# cut at its first `?` and its path decoded once; no URL is parsed.

cdef extern from *:
    """
    /* What each byte of a target is; 0: itself. Whatever no request line can hold is TARGET_WRONG. */
    enum {TARGET_WRONG = 1, TARGET_SLASH, TARGET_ESCAPE, TARGET_PARAMETER, TARGET_BACKSLASH, TARGET_HIGH};
    static const uint8_t TARGET_BYTES[256] = {
        [0 ... ' '] = TARGET_WRONG, ['#'] = TARGET_WRONG, [0x7F] = TARGET_WRONG,
        ['/'] = TARGET_SLASH, ['%'] = TARGET_ESCAPE, [';'] = TARGET_PARAMETER, ['\\\\'] = TARGET_BACKSLASH,
        [0x80 ... 0xFF] = TARGET_HIGH};
    """
    const uint8_t TARGET_BYTES[256]
    int TARGET_WRONG
    int TARGET_SLASH
    int TARGET_ESCAPE
    int TARGET_PARAMETER
    int TARGET_BACKSLASH
    int TARGET_HIGH


# A target that was read. Points into itself, so that it stays where it is.
cdef struct Target:
    Slice path                # decoded, with single slashes between the segments
    Slice query               # as sent, without its `?`
    uint32_t segment_count    # at least one; the last one is empty where the path ends with a slash
    const uint8_t *compared   # where a segment is looked up: `buffer`, or `folded` where case does not count
    Slice segments[MAX_SEGMENTS]  # decoded
    uint8_t buffer[MAX_TARGET + 8]
    uint8_t folded[MAX_TARGET + 8]


cdef inline Slice target_key(const Target *t, uint32_t i) noexcept nogil:
    # A segment as routes know it.
    return slice_of(t.compared + (t.segments[i].data - t.buffer), t.segments[i].len)


cdef inline int read_escape(const uint8_t *text, uint32_t left) noexcept nogil:
    # The byte that `%XX` stands for; -1: it is cut, or no escape.
    cdef int high
    cdef int low
    if left < 3:
        return -1
    high = hex_digit(text[1])
    low = hex_digit(text[2])
    return -1 if high < 0 or low < 0 else high << 4 | low


cdef bint dots_stand_alone(const uint8_t *text, uint32_t length) noexcept nogil:
    # Whether a segment is `.` or `..` to anybody: as it is, in front of parameters, or between slashes that were encoded.
    cdef uint32_t i = 0
    cdef uint32_t dots
    cdef const uint8_t *slash
    while True:
        dots = 0
        while i + dots < length and text[i + dots] == 46:
            dots += 1
        if (dots == 1 or dots == 2) and (i + dots == length or text[i + dots] == 47 or text[i + dots] == 59):
            return True
        slash = <const uint8_t *>memchr(text + i, 47, length - i)
        if slash == NULL:
            return False
        i = <uint32_t>(slash - text) + 1


cdef bint escapes_remain(const uint8_t *text, uint32_t length) noexcept nogil:
    # Whether whoever decodes once more would find something else: a separator or a dot, or only another name.
    cdef uint32_t i
    for i in range(length):
        if text[i] == 37 and read_escape(text + i, length - i) >= 0:
            return True
    return False


cdef int64_t segment_read(
    const uint8_t *raw, uint32_t length, uint32_t options, uint8_t *out, uint32_t *out_len, bint *has_high
) noexcept nogil:
    # Decode up to the next slash or the end: how many bytes of *raw* that took, -1: it cannot be read safely.
    cdef uint32_t i = 0
    cdef uint32_t size = 0
    cdef bint decoded = False
    cdef uint8_t kind
    cdef int c
    while i < length:
        c = raw[i]
        kind = TARGET_BYTES[c]
        if kind:
            if kind == TARGET_SLASH:
                break
            if kind == TARGET_ESCAPE:
                c = read_escape(raw + i, length - i)
                if c < 32 or c == 127:
                    return -1
                i += 2
                decoded = True
                kind = TARGET_BYTES[c]
                if kind == TARGET_SLASH and options & ROUTE_KEEPS_ENCODED_SLASHES == 0:
                    return -1
            elif kind == TARGET_WRONG:
                return -1
            if kind == TARGET_BACKSLASH or (kind == TARGET_PARAMETER and options & ROUTE_KEEPS_PARAMETERS == 0):
                return -1
            if kind == TARGET_HIGH:
                has_high[0] = True
        out[size] = <uint8_t>c
        size += 1
        i += 1
    out_len[0] = size
    if size and out[0] == 46 and dots_stand_alone(out, size):
        return -1
    if UNLIKELY(decoded) and (dots_stand_alone(out, size) or escapes_remain(out, size)):
        return -1
    return i


cdef bint path_read(Target *t, Slice raw, uint32_t options) noexcept nogil:
    # INVARIANT: no more is ever written than was read, so that `buffer` has room for a whole target.
    cdef uint32_t i = 0
    cdef uint32_t out = 0
    cdef uint32_t size = 0
    cdef bint has_high = False
    cdef bint is_last = False
    cdef int64_t taken
    while not is_last:
        # A slash begins what is left.
        t.buffer[out] = 47
        taken = segment_read(raw.data + i + 1, raw.len - i - 1, options, t.buffer + out + 1, &size, &has_high)
        if taken < 0:
            return False
        i += 1 + <uint32_t>taken
        is_last = i == raw.len
        if size == 0 and not is_last:
            if options & ROUTE_MERGES_SLASHES == 0:
                return False
            continue
        if t.segment_count == MAX_SEGMENTS:
            return False
        t.segments[t.segment_count] = slice_of(t.buffer + out + 1, size)
        t.segment_count += 1
        out += 1 + size
    if options & ROUTE_IGNORES_TRAILING_SLASH and size == 0 and t.segment_count > 1:
        t.segment_count -= 1
        out -= 1
    t.path = slice_of(t.buffer, out)
    return not has_high or utf8_valid(t.buffer, out)


cdef bint target_read(Target *t, Slice raw, uint32_t options) noexcept nogil:
    # Read a target, path and query; *options* are the ROUTE_* of an image's settings. False: it cannot be read safely.
    cdef const uint8_t *mark
    cdef uint32_t length = raw.len
    cdef uint32_t i
    t.segment_count = 0
    t.path = slice_of(t.buffer, 0)
    t.query = slice_of(t.buffer, 0)
    t.compared = t.buffer
    if raw.len == 0 or raw.len > MAX_TARGET or raw.data[0] != 47:
        return False
    mark = <const uint8_t *>memchr(raw.data, 63, raw.len)
    if mark != NULL:
        length = <uint32_t>(mark - raw.data)
        t.query = slice_of(mark + 1, raw.len - length - 1)
        for i in range(t.query.len):
            if TARGET_BYTES[t.query.data[i]] == TARGET_WRONG:
                return False
    if not path_read(t, slice_of(raw.data, length), options):
        return False
    if options & ROUTE_IGNORES_CASE:
        fold_text(t.buffer, t.path.len, t.folded)
        t.compared = t.folded
    return True
