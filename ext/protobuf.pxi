# SPDX-License-Identifier: Apache-2.0
# How protobuf writes messages down: fields read in place, and written into a buffer.

cdef enum:
    WIRE_VARINT = 0
    WIRE_FIXED64 = 1
    WIRE_BYTES = 2
    WIRE_FIXED32 = 5
    # gRPC puts this much in front of a message; answers leave room for it.
    FRAMING = 5


# What is left to read of a message. Confined to one call.
cdef struct Reader:
    const uint8_t *here
    const uint8_t *end


cdef inline bint read_varint(Reader *reader, uint64_t *out) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint32_t shift = 0
    cdef uint8_t byte
    while reader.here != reader.end and shift < 70:
        byte = reader.here[0]
        reader.here += 1
        if shift < 64:
            value |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = value
            return True
        shift += 7
    return False


cdef inline bint read_slice(Reader *reader, Slice *out) noexcept nogil:
    cdef uint64_t length
    if reader.here != reader.end and reader.here[0] < 0x80:
        length = reader.here[0]
        reader.here += 1
    elif not read_varint(reader, &length):
        return False
    if length > <uint64_t>(reader.end - reader.here):
        return False
    out.data = reader.here
    out.len = <uint32_t>length
    reader.here += length
    return True


cdef inline Reader reader_of(Slice text) noexcept nogil:
    cdef Reader reader
    reader.here = text.data
    reader.end = text.data + text.len
    return reader


cdef bint skip_field(Reader *reader, uint32_t wire_type) noexcept nogil:
    # Step over a field that this version does not know. Groups are long gone and refused.
    cdef uint64_t number
    cdef Slice text
    cdef int64_t left = reader.end - reader.here
    if wire_type == WIRE_VARINT:
        return read_varint(reader, &number)
    if wire_type == WIRE_BYTES:
        return read_slice(reader, &text)
    if wire_type == WIRE_FIXED64 and left >= 8:
        reader.here += 8
        return True
    if wire_type == WIRE_FIXED32 and left >= 4:
        reader.here += 4
        return True
    return False


cdef inline bint read_tag(Reader *reader, uint32_t *field, uint32_t *wire_type) noexcept nogil:
    cdef uint64_t tag
    if not read_varint(reader, &tag) or tag >> 3 == 0 or tag >> 32:
        return False
    field[0] = <uint32_t>(tag >> 3)
    wire_type[0] = <uint32_t>(tag & 7)
    return True


cdef inline bint read_text(Reader *reader, Slice *out, const char *field, Fault *fault) noexcept nogil:
    if not read_slice(reader, out):
        return fault_set(fault, field, b"it does not end inside the message")
    cdef int found = text_check(out.data, out.len)
    if UNLIKELY(found != TEXT_VALID):
        return fault_set(fault, field, b"it is not valid UTF-8" if found == TEXT_INVALID else b"it holds a NUL character")
    return True


cdef inline bint malformed(Fault *fault, const char *field) noexcept nogil:
    return fault_set(fault, field, b"it is not a valid protobuf message")


# Writing. Callers provide room for the longest answer.

cdef inline uint8_t *write_varint(uint8_t *out, uint64_t value) noexcept nogil:
    while value >= 0x80:
        out[0] = <uint8_t>(value | 0x80)
        out += 1
        value >>= 7
    out[0] = <uint8_t>value
    return out + 1


cdef inline uint8_t *write_field(uint8_t *out, uint32_t field, const void *data, uint32_t length) noexcept nogil:
    if length == 0:
        return out
    out[0] = <uint8_t>(field << 3 | WIRE_BYTES)
    out = write_varint(out + 1, length)
    memcpy(out, data, length)
    return out + length


cdef inline uint8_t *write_enum(uint8_t *out, uint32_t field, uint32_t value) noexcept nogil:
    if value == 0:
        return out
    out[0] = <uint8_t>(field << 3 | WIRE_VARINT)
    return write_varint(out + 1, value)


# Room for a message whose length is not known ahead. Confined to one call.
cdef struct Out:
    uint8_t *here
    uint8_t *end
    bint is_full              # something did not fit: what was written means nothing


cdef inline Out out_of(uint8_t *data, uint64_t room) noexcept nogil:
    cdef Out out
    out.here = data
    out.end = data + room
    out.is_full = False
    return out


cdef inline void out_bytes(Out *out, const void *data, uint64_t length) noexcept nogil:
    if UNLIKELY(length > <uint64_t>(out.end - out.here)):
        out.is_full = True
        return
    memcpy(out.here, data, length)
    out.here += length


cdef inline void out_slice(Out *out, Slice text) noexcept nogil:
    if text.len:
        out_bytes(out, text.data, text.len)


cdef inline void out_text(Out *out, const char *text) noexcept nogil:
    out_bytes(out, text, strlen(text))


cdef inline void out_byte(Out *out, uint8_t byte) noexcept nogil:
    out_bytes(out, &byte, 1)


cdef inline void out_decimal(Out *out, uint64_t number) noexcept nogil:
    cdef uint8_t digits[20]
    out_bytes(out, digits, write_number(number, digits))


cdef inline void out_field(Out *out, uint32_t field, const void *data, uint32_t length) noexcept nogil:
    # As write_field. 16 is more than a tag and a length take.
    if UNLIKELY(<uint64_t>length + 16 > <uint64_t>(out.end - out.here)):
        out.is_full = True
        return
    out.here = write_field(out.here, field, data, length)


cdef inline void out_enum(Out *out, uint32_t field, uint32_t value) noexcept nogil:
    if UNLIKELY(out.end - out.here < 16):
        out.is_full = True
        return
    out.here = write_enum(out.here, field, value)


cdef inline uint8_t *out_open(Out *out, uint32_t field) noexcept nogil:
    # Begin a message inside of a message, and return where: out_close says how long it is.
    out_byte(out, <uint8_t>(field << 3 | WIRE_BYTES))
    out_byte(out, 0)
    return out.here


cdef inline void out_close(Out *out, uint8_t *begun) noexcept nogil:
    # SAFETY: unless it is full, out_open has left one byte for the length in front of *begun*.
    cdef uint64_t size = out.here - begun
    cdef uint32_t more = 0 if size < 128 else 1 if size < 16384 else 2
    if UNLIKELY(out.is_full or more > <uint64_t>(out.end - out.here) or size >= 2097152):
        out.is_full = True
        return
    if UNLIKELY(more):
        memmove(begun + more, begun, size)
    write_varint(begun - 1, size)
    out.here += more
