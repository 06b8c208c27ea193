# SPDX-License-Identifier: Apache-2.0
# What an upstream must not get from a client: headers in which the sidecar speaks, and what anybody could act with.

cdef enum:
    # The shortest token that could be one of ours, in characters.
    TOKEN_LEAST = (TOKEN_RAW_LEAST * 4 + 2) // 3
    COOKIES_KEPT = 0          # there is nothing to take out
    COOKIES_CUT = 1           # what is left was written
    COOKIES_GONE = 2          # nothing is left


cdef bint token_stands_in(Slice text) noexcept nogil:
    # Whether anything in a text could be a session token: a run of base64url that is long enough and of our version.
    cdef uint32_t start = 0
    cdef uint32_t i
    for i in range(text.len + 1):
        if i < text.len and BASE64URL[text.data[i]] != 0:
            continue
        if (
            i - start >= TOKEN_LEAST
            and BASE64URL[text.data[start]] - 1 == TOKEN_VERSION >> 2
            and (BASE64URL[text.data[start + 1]] - 1) >> 4 == TOKEN_VERSION & 3
        ):
            return True
        start = i + 1
    return False


cdef bint bearer_is_ours(const Attributes *a) noexcept nogil:
    # Whether one of the headers `authorization` holds what could be a session token.
    cdef Slice name = slice_literal(b"authorization", 13)
    cdef uint32_t i
    for i in range(a.header_count):
        if name_is(a.headers[i].name, name) and token_stands_in(a.headers[i].value):
            return True
    return False


cdef inline uint8_t dashed(uint8_t c) noexcept nogil:
    # CGI, and whatever has grown from it, takes `_` and `-` for the same.
    return 45 if c == 95 else fold_byte(c)


cdef bint header_is_identity(Slice name) noexcept nogil:
    # Whether a header speaks of who calls, in any spelling.
    cdef const char *own = b"x-iam-"
    cdef const char *peer = b"x-forwarded-client-cert"
    cdef uint32_t i
    if name.len < 6 or dashed(name.data[0]) != 120 or dashed(name.data[1]) != 45:
        return False
    for i in range(6):
        if dashed(name.data[i]) != <uint8_t>own[i]:
            break
    else:
        return True
    if name.len != 23:
        return False
    for i in range(23):
        if dashed(name.data[i]) != <uint8_t>peer[i]:
            return False
    return True


# Cookies.

cdef bint cookie_is(Slice text, Slice name) noexcept nogil:
    # Whether a text begins with `NAME=`, blanks aside.
    cdef uint32_t i = name.len
    text = behind_blanks(text)
    if text.len <= name.len or memcmp(text.data, name.data, name.len) != 0:
        return False
    while i < text.len and (text.data[i] == 32 or text.data[i] == 9):
        i += 1
    return i < text.len and text.data[i] == 61


cdef bint cookie_plain(Slice text) noexcept nogil:
    # Whether it can stand in a header that we write.
    cdef uint32_t i
    for i in range(text.len):
        if (text.data[i] < 32 and text.data[i] != 9) or text.data[i] == 127:
            return False
    return utf8_valid(text.data, text.len)


cdef void cookie_keep(Out *out, const uint8_t *start, Slice text) noexcept nogil:
    text = trimmed(text)
    if text.len == 0 or not cookie_plain(text):
        return
    if out.here != start:
        out_bytes(out, b"; ", 2)
    out_slice(out, text)


cdef bint cookies_cut(Out *out, const uint8_t *start, Slice rest, Slice name) noexcept nogil:
    # What one header, or one crumb of it, holds beside cookies of this name; whether there were any. Headers that somebody
    # has joined have a comma where a semicolon belongs.
    cdef uint32_t i
    cdef uint32_t begun = 0
    cdef bint found = False
    cdef bint is_ours = cookie_is(rest, name)
    cdef Slice behind
    for i in range(rest.len + 1):
        if i < rest.len and rest.data[i] != 59 and rest.data[i] != 44:
            continue
        behind = slice_of(rest.data + i + 1, rest.len - i - 1) if i < rest.len else slice_of(NULL, 0)
        if i < rest.len and rest.data[i] == 44 and not is_ours and not cookie_is(behind, name):
            # A comma in the value of somebody else's cookie.
            continue
        if is_ours:
            found = True
        else:
            cookie_keep(out, start, slice_of(rest.data + begun, i - begun))
        begun = i + 1
        is_ours = cookie_is(behind, name)
    return found


cdef bint slice_holds(Slice text, Slice part) noexcept nogil:
    cdef const uint8_t *here = text.data
    cdef const uint8_t *end = text.data + text.len
    while end - here >= part.len:
        here = <const uint8_t *>memchr(here, part.data[0], end - here - part.len + 1)
        if here == NULL:
            return False
        if memcmp(here, part.data, part.len) == 0:
            return True
        here += 1
    return False


cdef uint32_t cookies_strip(const Attributes *a, Slice name, Out *out) noexcept nogil:
    # COOKIES_*: write all cookies but those of this name. SPEC: RFC 6265, section 4.2.
    cdef Slice header_name = slice_literal(b"cookie", 6)
    cdef const uint8_t *start = out.here
    cdef bint found = False
    cdef uint32_t i
    if name.len == 0:
        return COOKIES_KEPT
    for i in range(a.header_count):
        found |= name_is(a.headers[i].name, header_name) and slice_holds(a.headers[i].value, name)
    if not found:
        return COOKIES_KEPT
    found = False
    for i in range(a.header_count):
        if name_is(a.headers[i].name, header_name):
            found |= cookies_cut(out, start, a.headers[i].value, name)
    if not found:
        return COOKIES_KEPT
    return COOKIES_GONE if out.here == start and not out.is_full else COOKIES_CUT
