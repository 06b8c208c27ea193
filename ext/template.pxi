# SPDX-License-Identifier: Apache-2.0
# Values of a request, put into the templates of an image.

cdef enum:
    VALUE_ABSENT = 0
    VALUE_THERE = 1
    # It is there and must not be used: the request is refused.
    VALUE_WRONG = 2
    # More than any request of ours may hold.
    TEMPLATE_ROOM = MAX_REQUEST_BYTES


# Where values come from. Confined to one call; nothing in it is owned.
cdef struct ValueSource:
    const ImageView *image
    const Attributes *attributes
    Slice path                # decoded
    Slice query               # as sent
    uint32_t options          # ROUTE_* of the image's settings
    const Slice *captures
    bint has_jwt
    Slice jwt                 # a google.protobuf.Struct


# Texts that are put together, one behind the other.
cdef struct TextRoom:
    uint8_t *data
    uint32_t len
    uint32_t most


# How far the values of one piece were read.
cdef struct ValueCursor:
    uint32_t count            # values so far
    uint32_t place            # in the query
    bint is_list
    Reader list


cdef extern from *:
    """
    /* Of each byte: 1, it may stand in a text; 2, in a word; 4, inside of a resource; 8, at its end; 16, in a name. */
    static const uint8_t VALUE_BYTES[256] = {
        [' ' ... '~'] = 13, [0x80 ... 0xFF] = 13, ['*'] = 1, ['?'] = 1, ['$'] = 1, ['/'] = 9, [':'] = 9,
        ['0' ... '9'] = 31, ['A' ... 'Z'] = 31, ['a' ... 'z'] = 31, ['.'] = 31, ['_'] = 31, ['-'] = 31,
        ['+'] = 29, ['='] = 29, [','] = 29, ['@'] = 29};
    static const uint8_t VALUE_RULES[] = {1, 2, 4, 8, 16};
    """
    const uint8_t VALUE_BYTES[256]
    const uint8_t VALUE_RULES[5]


cdef bint value_fits(Slice value, uint32_t rule) noexcept nogil:
    # Whether a value holds only what the rule of its place lets it hold.
    cdef uint8_t all = VALUE_RULES[rule]
    cdef uint32_t i
    if value.len == 0:
        return rule == VALUE_RULE_TEXT
    if rule == VALUE_RULE_NAME and value.len > 64:
        return False
    for i in range(value.len):
        all &= VALUE_BYTES[value.data[i]]
        # U+0080 to U+009F are control characters too.
        if UNLIKELY(value.data[i] == 0xC2) and i + 1 < value.len and value.data[i + 1] < 0xA0:
            return False
    return all != 0 and utf8_valid(value.data, value.len)


cdef inline bint room_add(TextRoom *room, const uint8_t *data, uint32_t length) noexcept nogil:
    if length > room.most - room.len:
        return False
    if length:
        memcpy(room.data + room.len, data, length)
    room.len += length
    return True


# One source after the other.

cdef int query_decode(TextRoom *room, Slice text, Slice *value) noexcept nogil:
    # A name or a value of a query. SPEC: URL Standard, application/x-www-form-urlencoded: `+` is a space.
    cdef uint8_t *out
    cdef uint32_t size = 0
    cdef uint32_t i = 0
    cdef int c
    if text.len > room.most - room.len:
        return VALUE_WRONG
    out = room.data + room.len
    while i < text.len:
        c = text.data[i]
        if c == 37:
            c = read_escape(text.data + i, text.len - i)
            if c < 0:
                return VALUE_WRONG
            i += 2
        elif c == 43:
            c = 32
        out[size] = <uint8_t>c
        size += 1
        i += 1
    value[0] = slice_of(out, size)
    return VALUE_THERE


cdef int query_next(const ValueSource *source, Slice name, uint32_t *place, TextRoom *room, Slice *value) noexcept nogil:
    # The next value of a parameter, decoded into *room*. A query that upstreams read in several ways is wrong: one with a
    # `;`, at which some cut, and one with names that cannot be decoded.
    cdef Slice query = source.query
    cdef Slice pair
    cdef Slice key
    cdef const uint8_t *end
    cdef const uint8_t *equals
    cdef int found
    if place[0] == 0 and query.len and source.options & ROUTE_KEEPS_PARAMETERS == 0 and memchr(query.data, 59, query.len) != NULL:
        return VALUE_WRONG
    while place[0] < query.len:
        pair = slice_of(query.data + place[0], query.len - place[0])
        end = <const uint8_t *>memchr(pair.data, 38, pair.len)
        if end != NULL:
            pair.len = <uint32_t>(end - pair.data)
        place[0] += pair.len + 1
        equals = <const uint8_t *>memchr(pair.data, 61, pair.len)
        key = slice_of(pair.data, pair.len if equals == NULL else <uint32_t>(equals - pair.data))
        # The name is not kept: the value is written over it.
        found = query_decode(room, key, &key)
        if found == VALUE_WRONG:
            return VALUE_WRONG
        if slice_equals(key, name.data, name.len):
            pair = slice_of(pair.data + pair.len, 0) if equals == NULL else slice_of(
                equals + 1, pair.len - <uint32_t>(equals - pair.data) - 1
            )
            found = query_decode(room, pair, value)
            if found == VALUE_THERE:
                room.len += value.len
            return found
    return VALUE_ABSENT


cdef int header_join(const Attributes *a, Slice name, TextRoom *room, Slice *value) noexcept nogil:
    # A header; several of one name with commas between, as Envoy gives them where it gives a map.
    cdef const Header *header = header_find(a, name)
    cdef uint32_t start = room.len
    cdef uint32_t i
    if header == NULL:
        return VALUE_ABSENT
    value[0] = header.value
    if header_count(a, name) == 1:
        return VALUE_THERE
    for i in range(a.header_count):
        if name_is(a.headers[i].name, name):
            if room.len > start and not room_add(room, b",", 1):
                return VALUE_WRONG
            if not room_add(room, a.headers[i].value.data, a.headers[i].value.len):
                return VALUE_WRONG
    value[0] = slice_of(room.data + start, room.len - start)
    return VALUE_THERE


cdef int number_write(double number, TextRoom *room, Slice *value) noexcept nogil:
    # A whole number in decimal digits. Others have more than one spelling, and those from 2**53 on stand for their neighbours
    # too, who may be somebody else.
    cdef uint8_t digits[24]
    cdef uint32_t size = 0
    cdef uint32_t start = room.len
    if not -9007199254740992.0 < number < 9007199254740992.0 or number != <double><int64_t>number:
        return VALUE_WRONG
    if number < 0:
        digits[0] = 45
        size = 1
        number = -number
    size += write_number(<uint64_t>number, digits + size)
    if not room_add(room, digits, size):
        return VALUE_WRONG
    value[0] = slice_of(room.data + start, size)
    return VALUE_THERE


cdef int scalar_write(const StructValue *inner, TextRoom *room, Slice *value) noexcept nogil:
    # What a claim says as text; a claim that is null is not there.
    if inner.kind == STRUCT_IS_TEXT:
        value[0] = inner.bytes
        return VALUE_THERE
    if inner.kind == STRUCT_IS_BOOL:
        value[0] = slice_literal(b"true", 4) if inner.number != 0 else slice_literal(b"false", 5)
        return VALUE_THERE
    if inner.kind == STRUCT_IS_NUMBER:
        return number_write(inner.number, room, value)
    return VALUE_ABSENT if inner.kind == STRUCT_IS_NULL else VALUE_WRONG


cdef int claim_next(Slice jwt, Slice name, ValueCursor *cursor, TextRoom *room, Slice *value) noexcept nogil:
    # The next value of a claim, which has several where it is a list.
    cdef StructValue inner
    cdef Slice bytes
    if cursor.count == 0 and not cursor.is_list:
        if not struct_find(jwt, name, &bytes):
            return VALUE_ABSENT
        if not value_read(bytes, &inner):
            return VALUE_WRONG
        if inner.kind != STRUCT_IS_LIST:
            return scalar_write(&inner, room, value)
        cursor.is_list = True
        cursor.list = reader_of(inner.bytes)
    if not cursor.is_list or not list_next(&cursor.list, &bytes):
        return VALUE_ABSENT
    if not value_read(bytes, &inner) or inner.kind == STRUCT_IS_NULL:
        return VALUE_WRONG
    return scalar_write(&inner, room, value)


cdef int host_write(Slice host, TextRoom *room, Slice *value) noexcept nogil:
    # As routes know it: neither port nor case make another host of it.
    cdef uint8_t name[HOST_MOST + 8]
    cdef uint32_t start = room.len
    cdef uint32_t length = host_read(host, name)
    if host.len == 0:
        return VALUE_ABSENT
    if length == 0 or not room_add(room, name, length):
        return VALUE_WRONG
    value[0] = slice_of(room.data + start, length)
    return VALUE_THERE


cdef inline int text_there(Slice text, Slice *value) noexcept nogil:
    value[0] = text
    return VALUE_THERE if text.len else VALUE_ABSENT


cdef int value_next(
    const ValueSource *source, const RoutePiece *piece, ValueCursor *cursor, TextRoom *room, Slice *value
) noexcept nogil:
    # The next value of a piece, whatever it holds.
    cdef const Attributes *a = source.attributes
    cdef Slice name = slice_of(source.image.strings + piece.text, piece.len)
    cdef const Header *pair
    if piece.source == PIECE_QUERY:
        return query_next(source, name, &cursor.place, room, value)
    if piece.source == PIECE_JWT:
        return claim_next(source.jwt, name, cursor, room, value) if source.has_jwt else VALUE_ABSENT
    if cursor.count:
        return VALUE_ABSENT
    if piece.source == PIECE_TEXT:
        value[0] = name
        return VALUE_THERE
    if piece.source == PIECE_CAPTURE:
        # SAFETY: an image whose pieces name captures that are not there is not sound.
        value[0] = source.captures[piece.capture]
        return VALUE_THERE
    if piece.source == PIECE_HEADER:
        return header_join(a, name, room, value)
    if piece.source == PIECE_EXTENSION:
        pair = pair_find(a.extensions, a.extension_count, name)
        value[0] = slice_of(NULL, 0) if pair == NULL else pair.value
        return VALUE_ABSENT if pair == NULL else VALUE_THERE
    if piece.source == PIECE_PEER:
        return text_there(a.source_principal, value)
    if piece.source == PIECE_SNI:
        return text_there(a.sni, value)
    if piece.source == PIECE_METHOD:
        return text_there(a.method, value)
    if piece.source == PIECE_HOST:
        return host_write(a.host, room, value)
    return text_there(source.path, value)


cdef int piece_value(const ValueSource *source, const RoutePiece *piece, TextRoom *room, Slice *value) noexcept nogil:
    # The one value of a piece, which keeps its rule; of several none is used.
    cdef ValueCursor cursor
    cdef Slice another
    cdef int found
    memset(&cursor, 0, sizeof(cursor))
    found = value_next(source, piece, &cursor, room, value)
    if found != VALUE_THERE or piece.source == PIECE_TEXT:
        return found
    if not value_fits(value[0], piece.rule):
        return VALUE_WRONG
    if piece.source == PIECE_HEADER:
        return VALUE_THERE
    cursor.count = 1
    # A list with one member is a list.
    if cursor.is_list or value_next(source, piece, &cursor, room, &another) != VALUE_ABSENT:
        return VALUE_WRONG
    return VALUE_THERE


cdef int template_write(
    const ValueSource *source, uint32_t first, uint32_t count, TextRoom *room, TextRoom *scratch, Slice *text
) noexcept nogil:
    # A template with every value in its place, written into *room*. Values that must be decoded pass through *scratch*.
    cdef uint32_t start = room.len
    cdef uint32_t kept = scratch.len
    cdef const RoutePiece *piece
    cdef Slice value
    cdef uint32_t i
    cdef int found
    for i in range(count):
        piece = &source.image.route_pieces[first + i]
        found = piece_value(source, piece, scratch, &value)
        if found != VALUE_THERE:
            return found
        if piece.source == PIECE_HEADER and piece.rule != VALUE_RULE_TEXT and header_count(
            source.attributes, slice_of(source.image.strings + piece.text, piece.len)
        ) != 1:
            return VALUE_WRONG
        if not room_add(room, value.data, value.len):
            return VALUE_WRONG
        scratch.len = kept
    text[0] = slice_of(room.data + start, room.len - start)
    return VALUE_THERE
