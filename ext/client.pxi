# SPDX-License-Identifier: Apache-2.0
# What the headers of a request tell of whoever sent it: what kind of client it is, from which address it came, where its
# browser can be sent back to.

cdef enum:
    CLIENT_API = 0            # a program, or a script in a page
    CLIENT_GRPC = 1
    CLIENT_PAGE = 2           # a browser that goes to a page
    CLIENT_FORM = 3           # a browser that sends a form


cdef bint holds_folded(Slice text, const char *lower) noexcept nogil:
    # Whether a word in lower case stands anywhere in a text.
    cdef uint32_t size = <uint32_t>strlen(lower)
    cdef uint32_t i
    cdef uint32_t k
    for i in range(size, text.len + 1):
        k = 0
        while k < size and fold_byte(text.data[i - size + k]) == <uint8_t>lower[k]:
            k += 1
        if k == size:
            return True
    return False


cdef inline bint begins_folded(Slice text, const char *lower) noexcept nogil:
    cdef uint32_t size = <uint32_t>strlen(lower)
    return text.len >= size and holds_folded(slice_of(text.data, size), lower)


cdef uint32_t client_find(const Attributes *a) noexcept nogil:
    # SPEC: W3C Fetch Metadata Request Headers. Old browsers send none of them, but ask for HTML.
    cdef Slice mode = header_value(a, b"sec-fetch-mode")
    cdef bint navigates
    if begins_folded(header_value(a, b"content-type"), b"application/grpc"):
        return CLIENT_GRPC
    if mode.len:
        navigates = mode.len == 8 and begins_folded(mode, b"navigate")
    else:
        navigates = (
            header_value(a, b"sec-fetch-site").len == 0
            and header_value(a, b"x-requested-with").len == 0
            and holds_folded(header_value(a, b"accept"), b"text/html")
        )
    if not navigates:
        return CLIENT_API
    if slice_equals(a.method, <const uint8_t *>b"GET", 3) or slice_equals(a.method, <const uint8_t *>b"HEAD", 4):
        return CLIENT_PAGE
    return CLIENT_FORM


# Addresses.

cdef inline Slice behind_blanks(Slice text) noexcept nogil:
    while text.len and (text.data[0] == 32 or text.data[0] == 9):
        text = slice_of(text.data + 1, text.len - 1)
    return text


cdef inline Slice trimmed(Slice text) noexcept nogil:
    text = behind_blanks(text)
    while text.len and (text.data[text.len - 1] == 32 or text.data[text.len - 1] == 9):
        text.len -= 1
    return text


cdef bint port_valid(Slice text) noexcept nogil:
    cdef uint32_t i
    for i in range(text.len):
        if text.data[i] < 48 or text.data[i] > 57:
            return False
    return 0 < text.len <= 5


cdef bint forwarded_address(Slice entry, Slice *address) noexcept nogil:
    # An entry of x-forwarded-for: an address, one with a port, or one in brackets. False: it is none of them.
    cdef const uint8_t *end
    cdef Slice rest = slice_of(NULL, 0)
    cdef Address parsed
    address[0] = entry
    if entry.len and entry.data[0] == 91:
        end = <const uint8_t *>memchr(entry.data, 93, entry.len)
        if end == NULL:
            return False
        address[0] = slice_of(entry.data + 1, <uint32_t>(end - entry.data) - 1)
        rest = slice_of(end + 1, <uint32_t>(entry.data + entry.len - end) - 1)
    elif entry.len:
        end = <const uint8_t *>memchr(entry.data, 58, entry.len)
        if end != NULL and memchr(end + 1, 58, entry.data + entry.len - end - 1) == NULL:
            address[0] = slice_of(entry.data, <uint32_t>(end - entry.data))
            rest = slice_of(end, entry.len - address.len)
    if rest.len and (rest.data[0] != 58 or not port_valid(slice_of(rest.data + 1, rest.len - 1))):
        return False
    return read_address(address[0], &parsed)


cdef bint source_ip_find(const Attributes *a, uint32_t trusted_hops, Slice *address) noexcept nogil:
    # From where the request came; False: what a trusted proxy says of that is no address.
    # SPEC: Envoy, HTTP header manipulation, x-forwarded-for. With so many trusted hops it is the entry before theirs,
    # counted from the right, where the last entry is that of the peer of the nearest hop. Fewer entries: it was the peer.
    cdef Slice name = slice_literal(b"x-forwarded-for", 15)
    cdef uint32_t left = trusted_hops + 1
    cdef uint32_t i = a.header_count
    cdef uint32_t start
    cdef Slice rest
    address[0] = a.source_address
    if trusted_hops == 0:
        return True
    while i:
        i -= 1
        if not name_is(a.headers[i].name, name):
            continue
        rest = a.headers[i].value
        while True:
            start = rest.len
            while start and rest.data[start - 1] != 44:
                start -= 1
            left -= 1
            if left == 0:
                return forwarded_address(trimmed(slice_of(rest.data + start, rest.len - start)), address)
            if start == 0:
                break
            rest.len = start - 1
    return True


cdef bint return_host_valid(Slice host) noexcept nogil:
    # A name or an IPv4 address, with a port or without.
    cdef const uint8_t *colon = <const uint8_t *>memchr(host.data, 58, host.len) if host.len else NULL
    cdef uint32_t size = host.len if colon == NULL else <uint32_t>(colon - host.data)
    cdef uint32_t i
    cdef uint8_t c
    for i in range(size):
        c = host.data[i]
        if not (97 <= fold_byte(c) <= 122 or 48 <= c <= 57 or c == 45 or c == 46):
            return False
    return size != 0 and (colon == NULL or port_valid(slice_of(colon + 1, host.len - size - 1)))


cdef Slice return_address(const Attributes *a, uint8_t *out) noexcept nogil:
    # The address of the request, for a browser to come back to; empty where it could be read in more than one way. *out*
    # has room for TICKET_MAX_RETURN_ADDRESS.
    cdef bint is_https = a.scheme.len == 5 and begins_folded(a.scheme, b"https")
    cdef uint8_t *end = out
    cdef uint32_t i
    if not is_https and not (a.scheme.len == 4 and begins_folded(a.scheme, b"http")):
        return slice_of(NULL, 0)
    if a.path.len == 0 or a.path.data[0] != 47 or not return_host_valid(a.host):
        return slice_of(NULL, 0)
    if <uint64_t>8 + a.host.len + a.path.len > TICKET_MAX_RETURN_ADDRESS:
        return slice_of(NULL, 0)
    for i in range(a.path.len):
        if a.path.data[i] < 33 or a.path.data[i] > 126 or a.path.data[i] == 92:
            return slice_of(NULL, 0)
    memcpy(end, b"https://", 8)
    if not is_https:
        memcpy(end, b"http://", 7)
    end += 8 if is_https else 7
    for i in range(a.host.len):
        end[i] = fold_byte(a.host.data[i])
    end += a.host.len
    memcpy(end, a.path.data, a.path.len)
    return slice_of(out, <uint32_t>(end - out) + a.path.len)
