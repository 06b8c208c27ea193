# SPDX-License-Identifier: Apache-2.0
# A request that took a route, as a question to the policies.

# Texts of that question which stand nowhere else.
cdef struct RouteRoom:
    uint8_t text[TEMPLATE_ROOM]
    uint8_t scratch[SCRATCH_ROOM]


cdef ContextEntry *context_add(Request *request, Slice name) noexcept nogil:
    # An entry without values, or NULL: there are too many.
    cdef ContextEntry *entry
    if request.entry_count >= MAX_CONTEXT_KEYS:
        return NULL
    entry = &request.entries[request.entry_count]
    request.entry_count += 1
    entry.name = name
    entry.first = request.value_count
    entry.count = 0
    entry.multivalued = False
    entry.overriding = False
    return entry


cdef bint context_value(Request *request, ContextEntry *entry, Slice value) noexcept nogil:
    if value.len > MAX_CONTEXT_VALUE or request.value_count >= MAX_CONTEXT_VALUES or not value_fits(value, VALUE_RULE_TEXT):
        return False
    request.values[request.value_count] = value
    request.value_count += 1
    entry.count += 1
    return True


cdef bint context_text(Request *request, const char *name, Slice value) noexcept nogil:
    cdef ContextEntry *entry = context_add(request, slice_literal(name, <uint32_t>strlen(name)))
    return entry != NULL and context_value(request, entry, value)


cdef bint context_header(Request *request, const ValueSource *source, const char *name, const char *header, TextRoom *room) noexcept nogil:
    # A key that is there where a header is.
    cdef Slice value
    cdef int found = header_join(source.attributes, slice_literal(header, <uint32_t>strlen(header)), room, &value)
    if found == VALUE_ABSENT:
        return True
    return found == VALUE_THERE and context_text(request, name, value)


cdef bint scheme_is_https(Slice scheme) noexcept nogil:
    cdef uint8_t folded[16]
    if scheme.len != 5:
        return False
    fold_ascii(scheme.data, 5, folded)
    return memcmp(folded, b"https", 5) == 0


cdef bint context_own(Request *request, const ValueSource *source, Slice source_ip, TextRoom *room) noexcept nogil:
    # What every request says of itself. SPEC: IAM User Guide, reference_policies_condition-keys.
    if source_ip.len and not context_text(request, b"aws:SourceIp", source_ip):
        return False
    # Whoever does not say is not taken to be secure.
    if not context_text(
        request,
        b"aws:SecureTransport",
        slice_literal(b"true", 4) if scheme_is_https(source.attributes.scheme) else slice_literal(b"false", 5),
    ):
        return False
    return context_header(request, source, b"aws:UserAgent", b"user-agent", room) and context_header(
        request, source, b"aws:Referer", b"referer", room
    )


cdef bint context_one(Request *request, const ValueSource *source, const RouteContext *own, TextRoom *room, TextRoom *scratch) noexcept nogil:
    # One key of a route. A template of one piece has as many values as there are; the key is left out if there is none.
    cdef const RoutePiece *piece = &source.image.route_pieces[own.pieces]
    cdef ContextEntry *entry = context_add(request, slice_of(source.image.strings + own.key, own.key_len))
    cdef ValueCursor cursor
    cdef Slice value
    cdef int found
    if entry == NULL:
        return False
    if own.piece_count == 1:
        memset(&cursor, 0, sizeof(cursor))
        while True:
            found = value_next(source, piece, &cursor, room, &value)
            if found != VALUE_THERE:
                break
            cursor.count += 1
            if not value_fits(value, piece.rule) or not context_value(request, entry, value):
                return False
        entry.multivalued = cursor.is_list or entry.count > 1
    else:
        found = template_write(source, own.pieces, own.piece_count, room, scratch, &value)
        if found == VALUE_THERE and not context_value(request, entry, value):
            return False
    if found == VALUE_WRONG:
        return False
    if entry.count == 0:
        request.entry_count -= 1
    return True


cdef bint resource_valid(Slice resource) noexcept nogil:
    # As deciding will want it.
    cdef ArnText arn
    if resource.len == 1 and resource.data[0] == 42:
        return True
    return (
        resource.len <= MAX_RESOURCE
        and arn_parse(resource.data, resource.len, &arn)
        and arn_field(&arn, 1).len != 0
        and arn_field(&arn, 2).len != 0
        and arn_field(&arn, 5).len != 0
    )


cdef bint question_bind(
    const ValueSource *source, const RouteRecord *route, Slice source_ip, Request *request, TextRoom *room, TextRoom *scratch
) noexcept nogil:
    # Action, resource, its account and the context; False: a value must not be used.
    cdef uint32_t i
    if (
        template_write(source, route.action, route.action_count, room, scratch, &request.action) != VALUE_THERE
        or template_write(source, route.resource, route.resource_count, room, scratch, &request.resource) != VALUE_THERE
        or (
            route.account_count
            and template_write(source, route.account, route.account_count, room, scratch, &request.resource_account)
            != VALUE_THERE
        )
    ):
        return False
    if request.action.len > MAX_ACTION or not action_valid(&request.action) or not resource_valid(request.resource):
        return False
    if route.account_count and not account_valid(&request.resource_account):
        return False
    if not context_own(request, source, source_ip, room):
        return False
    for i in range(route.context_count):
        if not context_one(request, source, &source.image.route_context[route.context + i], room, scratch):
            return False
    return True


cdef uint32_t route_bind(
    const ImageView *image,
    const Attributes *a,
    const Target *t,
    const RouteMatch *m,
    const CallerFound *found,
    Slice source_ip,
    Request *request,
    RouteRoom *room,
) noexcept nogil:
    # Fill *request*, which points into all of the others. The reason to deny, or REASON_UNSPECIFIED. Names of a refused
    # request stand in *request* as far as they could be put together, for records.
    cdef ValueSource source
    cdef TextRoom text
    cdef TextRoom scratch
    cdef bint sound
    request_clear(request)
    source.image = image
    source.attributes = a
    source.path = t.path
    source.query = t.query
    source.options = image.route_settings.flags
    source.captures = m.captures
    source.has_jwt = found.has_jwt
    source.jwt = found.jwt
    text.data = room.text
    text.len = 0
    text.most = TEMPLATE_ROOM
    scratch.data = room.scratch
    scratch.len = 0
    scratch.most = SCRATCH_ROOM
    if found.kind == CALLER_SOURCE_SESSION_TOKEN:
        request.has_session_token = True
        request.session_token = found.session_token
        request.token_fields = 1
    else:
        request.principal = found.principal
    sound = question_bind(&source, m.route, source_ip, request, &text, &scratch)
    if found.kind == CALLER_SOURCE_NONE:
        return REASON_CALLER_UNKNOWN
    return REASON_UNSPECIFIED if sound else REASON_ROUTE_VALUE_INVALID
