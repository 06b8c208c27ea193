# SPDX-License-Identifier: Apache-2.0
# What Envoy says of one request: an envoy.service.auth.v3.CheckRequest read in place.
#
# SPEC: envoy/service/auth/v3/attribute_context.proto. Clients that are no Envoy leave most of it out: grpc/proposal A92.

cdef enum:
    CHECK_HEADERS_MOST = 512
    CHECK_EXTENSIONS_MOST = 1024
    CHECK_FILTERS_MOST = 64
    # How deep a name leads into a google.protobuf.Struct.
    STRUCT_DEPTH_MOST = 16
    # What a google.protobuf.Value is: the number of its field.
    STRUCT_IS_NOTHING = 0
    STRUCT_IS_NULL = 1
    STRUCT_IS_NUMBER = 2
    STRUCT_IS_TEXT = 3
    STRUCT_IS_BOOL = 4
    STRUCT_IS_STRUCT = 5
    STRUCT_IS_LIST = 6


# A name and what it stands for: a header, a context extension, the metadata of a filter.
cdef struct Header:
    Slice name
    Slice value


# One CheckRequest. Nothing in it is owned; of lists only what is counted was ever written.
cdef struct Attributes:
    Slice source_address      # an IP address; empty: the peer is a pipe or of Envoy itself
    Slice source_principal    # the name in its certificate
    Slice method
    Slice path                # with the query, as sent
    Slice host
    Slice scheme
    Slice protocol
    Slice sni
    Slice request_id          # x-request-id
    Slice query               # never set by Envoy, who leaves it in the path
    Slice fragment
    uint32_t header_count
    uint32_t extension_count
    uint32_t filter_count
    Header headers[CHECK_HEADERS_MOST]        # names as sent
    Header extensions[CHECK_EXTENSIONS_MOST]
    Header filters[CHECK_FILTERS_MOST]        # of metadata: a google.protobuf.Struct each


# One google.protobuf.Value.
cdef struct StructValue:
    uint32_t kind             # STRUCT_IS_*
    Slice bytes               # of a text, a struct or a list
    double number             # of a number or a bool


cdef extern from *:
    """
    /* Of each byte: 1, it may stand in the name of a header. SPEC: RFC 9110, section 5.6.2; RFC 9113, section 8.3. */
    static const uint8_t HEADER_NAME_BYTES[256] = {
        ['!'] = 1, ['#' ... '\\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1, ['0' ... '9'] = 1, [':'] = 1,
        ['A' ... 'Z'] = 1, ['^' ... '`'] = 1, ['a' ... 'z'] = 1, ['|'] = 1, ['~'] = 1};
    """
    const uint8_t HEADER_NAME_BYTES[256]


cdef inline void attributes_clear(Attributes *a) noexcept nogil:
    # All but the lists, of which only what is counted is ever read.
    memset(a, 0, <size_t>(<uint8_t *>&a.headers[0] - <uint8_t *>a))


cdef bint attr_pair(Slice message, Header *pair, const char *where, Fault *fault) noexcept nogil:
    # One entry of a map whose values are texts, or messages that are stated once: those stated in parts are refused.
    cdef Reader reader = reader_of(message)
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef bint has_value = False
    pair.name = slice_of(NULL, 0)
    pair.value = slice_of(NULL, 0)
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, where)
        if wire_type == WIRE_BYTES and field == 1:
            if not read_slice(&reader, &pair.name):
                return malformed(fault, where)
        elif wire_type == WIRE_BYTES and field == 2:
            if has_value:
                return fault_set(fault, where, b"a value is stated twice")
            has_value = True
            if not read_slice(&reader, &pair.value):
                return malformed(fault, where)
        elif not skip_field(&reader, wire_type):
            return malformed(fault, where)
    return True


cdef inline bint header_name_valid(Slice name) noexcept nogil:
    cdef uint8_t all = 1
    cdef uint32_t i
    for i in range(name.len):
        all &= HEADER_NAME_BYTES[name.data[i]]
    return all != 0 and name.len != 0


cdef bint attr_header(Attributes *a, Slice message, bint is_raw, Fault *fault) noexcept nogil:
    # An entry of `headers`, or *is_raw* a HeaderValue of `header_map`, whose value stands in one of two fields.
    cdef const char *where = b"headers"
    cdef Reader reader = reader_of(message)
    cdef Header *header
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef Slice[3] parts
    cdef uint32_t last = 3 if is_raw else 2
    if a.header_count >= CHECK_HEADERS_MOST:
        return fault_set(fault, where, b"there are more than 512")
    memset(parts, 0, sizeof(parts))
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, where)
        if wire_type == WIRE_BYTES and field <= last:
            if not read_slice(&reader, &parts[field - 1]):
                return malformed(fault, where)
        elif not skip_field(&reader, wire_type):
            return malformed(fault, where)
    header = &a.headers[a.header_count]
    a.header_count += 1
    header.name = parts[0]
    header.value = parts[2] if parts[2].len else parts[1]
    if not header_name_valid(header.name):
        return fault_set(fault, where, b"a name holds what no name of a header can hold")
    return True


cdef bint attr_header_map(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # An envoy.config.core.v3.HeaderMap.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"header_map")
        if wire_type == WIRE_BYTES and field == 1:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"header_map")
            if not attr_header(a, inner, True, fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"header_map")
    return True


cdef bint attr_http(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # An HttpRequest. Its body is stepped over: nothing is decided by it.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"http")
        if wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                return malformed(fault, b"http")
        elif field == 3:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"headers")
            if not attr_header(a, inner, False, fault):
                return False
        elif field == 2:
            if not read_text(&reader, &a.method, b"method", fault):
                return False
        elif field == 4:
            # What no path can hold is for whoever reads paths to say.
            if not read_slice(&reader, &a.path):
                return malformed(fault, b"path")
        elif field == 5:
            if not read_text(&reader, &a.host, b"host", fault):
                return False
        elif field == 6:
            if not read_text(&reader, &a.scheme, b"scheme", fault):
                return False
        elif field == 7:
            if not read_text(&reader, &a.query, b"query", fault):
                return False
        elif field == 8:
            if not read_text(&reader, &a.fragment, b"fragment", fault):
                return False
        elif field == 10:
            if not read_text(&reader, &a.protocol, b"protocol", fault):
                return False
        elif field == 13:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"header_map")
            if not attr_header_map(inner, a, fault):
                return False
        elif not read_slice(&reader, &inner):
            return malformed(fault, b"http")
    return True


cdef bint attr_request(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # A Request: a time, which is ours to tell, and what HTTP says.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"request")
        if wire_type == WIRE_BYTES and field == 2:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"http")
            if not attr_http(inner, a, fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"request")
    return True


cdef bint attr_socket_address(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    cdef Reader reader = reader_of(message)
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"source")
        if wire_type == WIRE_BYTES and field == 2:
            if not read_text(&reader, &a.source_address, b"source", fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"source")
    return True


cdef bint attr_address(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # An envoy.config.core.v3.Address: a socket's, a pipe's or one of Envoy itself; the last one counts, as protobuf has it.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"source")
        if wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                return malformed(fault, b"source")
            continue
        if not read_slice(&reader, &inner):
            return malformed(fault, b"source")
        if field == 1:
            if not attr_socket_address(inner, a, fault):
                return False
        elif field == 2 or field == 3:
            a.source_address = slice_of(NULL, 0)
    return True


cdef bint attr_source(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # A Peer. Its certificate is stepped over: Envoy has verified it and says whose it is.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"source")
        if wire_type == WIRE_BYTES and field == 1:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"source")
            if not attr_address(inner, a, fault):
                return False
        elif wire_type == WIRE_BYTES and field == 4:
            if not read_text(&reader, &a.source_principal, b"principal", fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"source")
    return True


cdef bint attr_metadata(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # An envoy.config.core.v3.Metadata, typed metadata aside.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"metadata_context")
        if wire_type != WIRE_BYTES or field != 1:
            if not skip_field(&reader, wire_type):
                return malformed(fault, b"metadata_context")
            continue
        if not read_slice(&reader, &inner):
            return malformed(fault, b"metadata_context")
        if a.filter_count >= CHECK_FILTERS_MOST:
            return fault_set(fault, b"metadata_context", b"there are more than 64 filters")
        if not attr_pair(inner, &a.filters[a.filter_count], b"metadata_context", fault):
            return False
        a.filter_count += 1
    return True


cdef bint attr_tls_session(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    cdef Reader reader = reader_of(message)
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"tls_session")
        if wire_type == WIRE_BYTES and field == 1:
            if not read_text(&reader, &a.sni, b"sni", fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"tls_session")
    return True


cdef bint attr_extension(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    cdef Header *extension
    if a.extension_count >= CHECK_EXTENSIONS_MOST:
        return fault_set(fault, b"context_extensions", b"there are more than 1024")
    extension = &a.extensions[a.extension_count]
    a.extension_count += 1
    if not attr_pair(message, extension, b"context_extensions", fault):
        return False
    if (
        text_check(extension.name.data, extension.name.len) != TEXT_VALID
        or text_check(extension.value.data, extension.value.len) != TEXT_VALID
    ):
        return fault_set(fault, b"context_extensions", b"one is not valid UTF-8")
    return True


cdef bint attr_attributes(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # An AttributeContext. What it says of the destination and of routes is stepped over.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef bint sound = True
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"attributes")
        if wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                return malformed(fault, b"attributes")
            continue
        if not read_slice(&reader, &inner):
            return malformed(fault, b"attributes")
        if field == 1:
            sound = attr_source(inner, a, fault)
        elif field == 4:
            sound = attr_request(inner, a, fault)
        elif field == 10:
            sound = attr_extension(inner, a, fault)
        elif field == 11:
            sound = attr_metadata(inner, a, fault)
        elif field == 12:
            sound = attr_tls_session(inner, a, fault)
        if not sound:
            return False
    return True


# Lookups.

cdef inline bint name_is(Slice name, Slice lower) noexcept nogil:
    # Whether a name is this one, which is in lower case.
    cdef uint32_t i
    if name.len != lower.len:
        return False
    if LIKELY(memcmp(name.data, lower.data, lower.len) == 0):
        return True
    for i in range(lower.len):
        if fold_byte(name.data[i]) != lower.data[i]:
            return False
    return True


cdef const Header *pair_find(const Header *pairs, uint32_t count, Slice name) noexcept nogil:
    # The last one of this name, letter for letter, as of two entries of a map the later one counts; NULL: there is none.
    while count:
        count -= 1
        if slice_equals(pairs[count].name, name.data, name.len):
            return &pairs[count]
    return NULL


cdef const Header *header_find(const Attributes *a, Slice lower_case_name) noexcept nogil:
    # The header of this name, the last one if there are several; NULL: there is none.
    cdef uint32_t i = a.header_count
    while i:
        i -= 1
        if name_is(a.headers[i].name, lower_case_name):
            return &a.headers[i]
    return NULL


cdef uint32_t header_count(const Attributes *a, Slice lower_case_name) noexcept nogil:
    # How many headers have this name. In `headers` Envoy has joined them with commas; in `header_map` they stand apart.
    cdef uint32_t count = 0
    cdef uint32_t i
    for i in range(a.header_count):
        count += name_is(a.headers[i].name, lower_case_name)
    return count


cdef inline Slice header_value(const Attributes *a, const char *lower_case_name) noexcept nogil:
    # Empty: it is not there, or holds nothing.
    cdef const Header *header = header_find(a, slice_literal(lower_case_name, <uint32_t>strlen(lower_case_name)))
    return header.value if header != NULL else slice_of(NULL, 0)


cdef bint value_read(Slice message, StructValue *value) noexcept nogil:
    # A google.protobuf.Value; False: it is none, or is stated in parts.
    cdef Reader reader = reader_of(message)
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef uint64_t number
    value.kind = STRUCT_IS_NOTHING
    value.bytes = slice_of(NULL, 0)
    value.number = 0
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return False
        if field == STRUCT_IS_NUMBER and wire_type == WIRE_FIXED64:
            if reader.end - reader.here < 8:
                return False
            memcpy(&value.number, reader.here, 8)
            reader.here += 8
        elif (field == STRUCT_IS_NULL or field == STRUCT_IS_BOOL) and wire_type == WIRE_VARINT:
            if not read_varint(&reader, &number):
                return False
            value.number = number != 0
        elif (field == STRUCT_IS_TEXT or field == STRUCT_IS_STRUCT or field == STRUCT_IS_LIST) and wire_type == WIRE_BYTES:
            if value.kind == field and field != STRUCT_IS_TEXT:
                return False
            if not read_slice(&reader, &value.bytes):
                return False
        else:
            if not skip_field(&reader, wire_type):
                return False
            continue
        value.kind = field
    return True


cdef bint list_next(Reader *reader, Slice *value) noexcept nogil:
    # The next Value of a google.protobuf.ListValue; False: there is none, or what follows is none.
    cdef uint32_t field
    cdef uint32_t wire_type
    while reader.here != reader.end:
        if not read_tag(reader, &field, &wire_type):
            break
        if field == 1 and wire_type == WIRE_BYTES:
            return read_slice(reader, value)
        if not skip_field(reader, wire_type):
            break
    reader.here = reader.end
    return False


cdef bint struct_member(Slice message, Slice name, Slice *value) noexcept nogil:
    # A member of a google.protobuf.Struct, as the bytes of a Value.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef Header pair
    cdef Fault fault
    cdef uint32_t field
    cdef uint32_t wire_type
    cdef bint found = False
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return False
        if field != 1 or wire_type != WIRE_BYTES:
            if not skip_field(&reader, wire_type):
                return False
            continue
        if not read_slice(&reader, &inner) or not attr_pair(inner, &pair, b"", &fault):
            return False
        # A name may be empty, and then stand nowhere.
        if pair.name.len == name.len and (name.len == 0 or memcmp(pair.name.data, name.data, name.len) == 0):
            value[0] = pair.value
            found = True
    return found


cdef bint struct_find(Slice struct_bytes, Slice path_with_NUL_between, Slice *value) noexcept nogil:
    # The bytes of the Value that a name leads to, nested names with a NUL between; False: it leads nowhere.
    cdef Slice rest = path_with_NUL_between
    cdef Slice name
    cdef StructValue inner
    cdef const uint8_t *between
    cdef uint32_t depth
    for depth in range(STRUCT_DEPTH_MOST):
        between = <const uint8_t *>memchr(rest.data, 0, rest.len) if rest.len else NULL
        name = slice_of(rest.data, rest.len if between == NULL else <uint32_t>(between - rest.data))
        if not struct_member(struct_bytes, name, value):
            return False
        if between == NULL:
            return True
        if not value_read(value[0], &inner) or inner.kind != STRUCT_IS_STRUCT:
            return False
        struct_bytes = inner.bytes
        rest = slice_of(between + 1, rest.len - name.len - 1)
    return False


cdef inline bint text_or_header(const Attributes *a, Slice *text, const char *name, Fault *fault) noexcept nogil:
    # A text that was left out, as a header has it.
    if LIKELY(text.len != 0):
        return True
    text[0] = header_value(a, name)
    if text_check(text.data, text.len) != TEXT_VALID:
        return fault_set(fault, b"headers", b"what HTTP/2 says of the request is not valid UTF-8")
    return True


cdef bint attributes_read(Slice message, Attributes *a, Fault *fault) noexcept nogil:
    # A CheckRequest; False with *fault* set. What its fields leave out is taken from the headers that HTTP/2 has for it.
    cdef Reader reader = reader_of(message)
    cdef Slice inner
    cdef const uint8_t *question
    cdef uint32_t field
    cdef uint32_t wire_type
    attributes_clear(a)
    while reader.here != reader.end:
        if not read_tag(&reader, &field, &wire_type):
            return malformed(fault, b"request")
        if field == 1 and wire_type == WIRE_BYTES:
            if not read_slice(&reader, &inner):
                return malformed(fault, b"attributes")
            if not attr_attributes(inner, a, fault):
                return False
        elif not skip_field(&reader, wire_type):
            return malformed(fault, b"request")
    if a.path.len == 0:
        a.path = header_value(a, b":path")
    if not (
        text_or_header(a, &a.method, b":method", fault)
        and text_or_header(a, &a.scheme, b":scheme", fault)
        and text_or_header(a, &a.host, b":authority", fault)
        and text_or_header(a, &a.host, b"host", fault)
    ):
        return False
    a.request_id = header_value(a, b"x-request-id")
    # Nobody may have us look at one path, and the upstream at another.
    if a.fragment.len:
        return fault_set(fault, b"fragment", b"a request has none")
    question = <const uint8_t *>memchr(a.path.data, 63, a.path.len) if a.query.len and a.path.len else NULL
    if a.query.len and (
        question == NULL
        or not slice_equals(a.query, question + 1, <uint32_t>(a.path.data + a.path.len - question) - 1)
    ):
        return fault_set(fault, b"query", b"it is not that of the path")
    return True
