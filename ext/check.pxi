# SPDX-License-Identifier: Apache-2.0
# One request of Envoy, from bytes to bytes: routed, decided, counted and recorded. Stores nothing: what a person needs to
# prove a factor is sealed into a ticket.
#
# SPEC: RFC 6750, section 3; RFC 9470, section 3.

# Texts that a record says beside question and answer are cut there.
cdef enum:
    NOTE_ID_MOST = 256
    NOTE_PATH_MOST = 1024
    NOTE_MOST = 3 * NOTE_ID_MOST + NOTE_ID_MOST + NOTE_PATH_MOST + 8
    CHALLENGE_MOST = 320


# One call under way. Confined to it.
cdef struct CheckCall:
    Desk *desk
    const CheckView *view
    CheckRoom *room
    const ImageView *image
    Eval e
    MfaAnswer mfa
    Outcome result
    uint32_t shadow           # DECISION_*; DECISION_UNSPECIFIED: nothing is in shadow
    bint was_read             # the attributes are there
    bint was_asked            # a caller, an action and a resource are there
    uint64_t begun            # monotonic, as the next
    uint64_t read


# Deciding.

cdef uint32_t check_bind(CheckCall *c, ClockReading now, Fault *fault) noexcept nogil:
    # From a request that was routed to a question; the reason to deny it, or REASON_UNSPECIFIED.
    cdef CheckRoom *room = c.room
    cdef Request *request = &c.desk.request
    cdef Opener *opener = &c.desk.tokens.opener
    cdef Slice source_ip
    cdef uint32_t reason
    if not source_ip_find(&room.attributes, c.view.trusted_hops, &source_ip):
        return REASON_REQUEST_INVALID
    caller_identify(
        c.image, &room.attributes, c.view.cookie_name, &opener.crypto if opener.crypto.cipher != NULL else NULL, &room.caller
    )
    reason = route_bind(
        c.image, &room.attributes, &room.target, &room.match, &room.caller, source_ip, request, &room.route
    )
    if reason != REASON_UNSPECIFIED:
        return reason
    c.was_asked = True
    eval_clear(&c.e, c.image, request, now.seconds, now.nanos)
    if request.has_session_token:
        token_take(&c.e, request, opener, &c.desk.tokens.narrow, c.begun)
    return REASON_UNSPECIFIED if request_read(&c.e, request, fault) else REASON_ROUTE_VALUE_INVALID


cdef Outcome check_decide(CheckCall *c, Slice message, ClockReading now) noexcept nogil:
    cdef CheckRoom *room = c.room
    cdef Layers layers
    cdef Fault fault
    cdef uint32_t reason
    cdef Outcome result
    fault_clear(&fault)
    if not attributes_read(message, &room.attributes, &fault):
        return implicit(LAYER_UNSPECIFIED, REASON_REQUEST_INVALID)
    c.was_read = True
    if c.image == NULL:
        return implicit(LAYER_UNSPECIFIED, REASON_NO_SNAPSHOT)
    if c.image.counts[SECTION_ROUTE_SETTINGS] == 0:
        return implicit(LAYER_UNSPECIFIED, REASON_NO_ROUTE)
    if not target_read(&room.target, room.attributes.path, c.image.route_settings.flags):
        return implicit(LAYER_UNSPECIFIED, REASON_PATH_INVALID)
    if not route_find(c.image, room.attributes.method, room.attributes.host, &room.target, &room.match):
        room.match.route = NULL
        return implicit(LAYER_UNSPECIFIED, REASON_NO_ROUTE)
    if room.match.route.flags & ROUTE_PUBLIC:
        return outcome(DECISION_ALLOW, LAYER_UNSPECIFIED, REASON_PUBLIC_ROUTE)
    reason = check_bind(c, now, &fault)
    c.read = clock_monotonic()
    if reason != REASON_UNSPECIFIED:
        return implicit(LAYER_UNSPECIFIED, reason)
    result = decide(&c.e, &c.desk.request, &layers, &c.mfa, &fault)
    if UNLIKELY(fault.field != NULL):
        c.mfa.needed = False
        return implicit(LAYER_UNSPECIFIED, REASON_ROUTE_VALUE_INVALID)
    return result


# Deciding again, with what stands in shadow.

cdef void check_token(CheckCall *c, ShadowRoom *again) noexcept nogil:
    # Let the session token say who calls: what was found of it before, or what is found now.
    cdef Request *request = &again.request
    cdef const Request *asked = &c.desk.request
    if (
        c.was_asked
        and asked.has_session_token
        and slice_equals(request.session_token, asked.session_token.data, asked.session_token.len)
    ):
        again.eval.token = c.e.token
        again.eval.token_refusal = c.e.token_refusal
        again.eval.narrow = c.e.narrow
        request.principal = asked.principal
    else:
        token_take(&again.eval, request, &c.desk.tokens.opener, &c.desk.tokens.narrow, c.begun)


cdef Outcome check_again(CheckCall *c, ShadowRoom *again, ClockReading now) noexcept nogil:
    # As check_decide, of a request whose target was read. INVARIANT: nothing that check_decide found is changed.
    cdef const ImageView *image = c.image.shadow
    cdef CheckRoom *room = c.room
    cdef Crypto *crypto = &c.desk.tokens.opener.crypto
    cdef Slice source_ip
    cdef Fault fault
    cdef uint32_t reason
    cdef Outcome result
    fault_clear(&fault)
    if not route_find(image, room.attributes.method, room.attributes.host, &room.target, &room.shadow_match):
        return implicit(LAYER_UNSPECIFIED, REASON_NO_ROUTE)
    if room.shadow_match.route.flags & ROUTE_PUBLIC:
        return outcome(DECISION_ALLOW, LAYER_UNSPECIFIED, REASON_PUBLIC_ROUTE)
    if not source_ip_find(&room.attributes, c.view.trusted_hops, &source_ip):
        return implicit(LAYER_UNSPECIFIED, REASON_REQUEST_INVALID)
    caller_identify(
        image, &room.attributes, c.view.cookie_name, crypto if crypto.cipher != NULL else NULL, &room.shadow_caller
    )
    reason = route_bind(
        image, &room.attributes, &room.target, &room.shadow_match, &room.shadow_caller, source_ip, &again.request,
        &room.shadow_route,
    )
    if reason != REASON_UNSPECIFIED:
        return implicit(LAYER_UNSPECIFIED, reason)
    eval_clear(&again.eval, image, &again.request, now.seconds, now.nanos)
    if again.request.has_session_token:
        check_token(c, again)
    if not request_read(&again.eval, &again.request, &fault):
        return implicit(LAYER_UNSPECIFIED, REASON_ROUTE_VALUE_INVALID)
    result = decide(&again.eval, &again.request, &again.layers, &again.mfa, &fault)
    if fault.field != NULL:
        again.mfa.needed = False
        return implicit(LAYER_UNSPECIFIED, REASON_ROUTE_VALUE_INVALID)
    return result


cdef void check_shadow(CheckCall *c, ClockReading now) noexcept nogil:
    # What the request would come to with what stands in shadow, into c.shadow; of c.result and c.mfa the stricter, where that
    # should be in force by now. What cannot be read, and a target that can be read in two ways, is denied in shadow too.
    cdef ShadowRoom *again = &c.desk.shadow
    cdef uint32_t reason = c.result.reason
    again.mfa.needed = False
    if (
        reason == REASON_REQUEST_INVALID
        or reason == REASON_PATH_INVALID
        or c.image.shadow.counts[SECTION_ROUTE_SETTINGS] == 0
    ):
        again.outcome = c.result
    else:
        again.outcome = check_again(c, again, now)
    c.shadow = again.outcome.decision
    shadow_settle(c.image, now.seconds, again.outcome, &again.mfa, &c.result, &c.mfa)


# Telling.

cdef inline Slice route_id(const CheckCall *c) noexcept nogil:
    cdef const RouteRecord *route = c.room.match.route
    return slice_of(NULL, 0) if route == NULL else slice_of(c.image.strings + route.id, route.id_len)


cdef CheckFacts check_facts(const CheckCall *c) noexcept nogil:
    cdef CheckFacts facts
    facts.decision = c.result.decision
    facts.reason = c.result.reason
    facts.shadow = c.shadow
    facts.principal = c.desk.request.principal if c.was_asked else slice_of(NULL, 0)
    facts.route = route_id(c)
    facts.revision = slice_of(NULL, 0) if c.image == NULL else slice_of(<const uint8_t *>c.image.revision, 64)
    return facts


cdef Slice account_of(Slice principal) noexcept nogil:
    # The account that an ARN names.
    cdef ArnText arn
    if principal.len == 0 or not arn_parse(principal.data, principal.len, &arn):
        return slice_of(NULL, 0)
    return arn_field(&arn, 4)


cdef uint32_t check_told(const CheckCall *c) noexcept nogil:
    # CHECK_*: what a denial means for whoever called.
    cdef uint32_t reason = c.result.reason
    if reason == REASON_REQUEST_INVALID or reason == REASON_NO_SNAPSHOT:
        return CHECK_ERROR
    if (
        reason == REASON_CALLER_UNKNOWN or reason == REASON_SESSION_INVALID or reason == REASON_SESSION_EXPIRED
        or reason == REASON_SESSION_REVOKED
    ):
        return CHECK_SIGN_IN
    if not c.was_asked:
        return CHECK_DENY
    if c.mfa.needed and c.view.step_up_hints:
        # Only a session can carry a proof.
        return CHECK_STEP_UP if c.e.token != NULL else CHECK_SIGN_IN
    # Whoever has not said who they are may be somebody.
    return CHECK_SIGN_IN if c.room.caller.kind == CALLER_SOURCE_ANONYMOUS else CHECK_DENY


cdef Slice check_ticket(CheckCall *c, Slice address, ClockReading now) noexcept nogil:
    # A ticket for the proof that is asked for; empty: it cannot be sealed.
    cdef Ticket ticket
    ticket.expires_at = moment_ms(now.seconds, now.nanos) + TICKET_LIFETIME_MS
    ticket.access_key_id = c.e.token.access_key_id
    ticket.flags = 0
    if c.room.match.route.flags & ROUTE_PROOF_FOR_CALL:
        ticket.flags |= TICKET_FOR_CALL
    if c.mfa.has_max_age:
        ticket.flags |= TICKET_HAS_MAX_AGE
    if c.mfa.user_verification:
        ticket.flags |= TICKET_USER_VERIFICATION
    ticket.methods = <uint8_t>c.mfa.methods
    ticket.max_age = c.mfa.max_age if c.mfa.has_max_age else 0
    ticket.action = c.desk.request.action
    ticket.resource = c.desk.request.resource
    ticket.return_address = address
    return slice_of(
        c.room.ticket, ticket_seal(&c.desk.tokens.opener.crypto, c.desk.tokens.opener.keys, &ticket, c.room.ticket)
    )


cdef Slice check_link(CheckCall *c, uint32_t told, Slice ticket, Slice address) noexcept nogil:
    # Where in the prompt a person goes on; empty: there are no such pages.
    cdef Out out = out_of(c.room.link, LINK_MOST)
    if c.view.prompt_url.len == 0:
        return slice_of(NULL, 0)
    out_slice(&out, c.view.prompt_url)
    if told == CHECK_STEP_UP:
        out_text(&out, b"/step-up?ticket=")
        out_slice(&out, ticket)
    else:
        out_text(&out, b"/sign-in")
        if address.len:
            out_text(&out, b"?next=")
            out_percent(&out, address)
    return slice_of(NULL, 0) if out.is_full else slice_of(c.room.link, <uint32_t>(out.here - c.room.link))


cdef Slice check_challenge(const CheckCall *c, uint32_t told, uint8_t *data) noexcept nogil:
    # What stands in WWW-Authenticate. *data* has room for CHALLENGE_MOST.
    cdef Out out = out_of(data, CHALLENGE_MOST)
    out_text(&out, b"Bearer realm=\"iam-sidecar\"")
    if told == CHECK_STEP_UP:
        out_text(&out, b", error=\"insufficient_user_authentication\"")
        out_text(&out, b", error_description=\"a second factor is needed\", acr_values=\"")
        out_methods(&out, &c.mfa, b" ", b"")
        out_byte(&out, 34)
        if c.mfa.has_max_age:
            out_text(&out, b", max_age=\"")
            out_decimal(&out, c.mfa.max_age)
            out_byte(&out, 34)
    elif c.was_asked and c.desk.request.has_session_token:
        out_text(&out, b", error=\"invalid_token\", error_description=\"the session is not valid\"")
    return slice_of(data, <uint32_t>(out.here - data))


cdef void denial_plain(const CheckCall *c, Denial *denial) noexcept nogil:
    memset(denial, 0, sizeof(Denial))
    denial.client = client_find(&c.room.attributes)
    denial.http = 403
    denial.code = RPC_PERMISSION_DENIED
    denial.error = b"access_denied"
    denial.text = b"access denied"
    denial.problem = b"ACCESS_DENIED"
    if request_id_plain(c.room.attributes.request_id):
        denial.request_id = c.room.attributes.request_id


cdef void denial_asks(CheckCall *c, uint32_t told, ClockReading now, uint8_t *challenge, Denial *denial) noexcept nogil:
    # Make a denial one that says what would help.
    cdef Slice address = slice_of(NULL, 0)
    if denial.client == CLIENT_PAGE:
        address = return_address(&c.room.attributes, c.room.return_address)
    denial.http = 401
    denial.code = RPC_UNAUTHENTICATED
    denial.error = b"unauthenticated"
    denial.text = b"you are not signed in"
    denial.problem = b"SIGN_IN_REQUIRED"
    if told == CHECK_STEP_UP:
        denial.asks_for_proof = True
        denial.error = b"insufficient_user_authentication"
        denial.text = b"a second factor is needed"
        denial.problem = b"MFA_REQUIRED"
        denial.mfa = &c.mfa
        denial.ticket = check_ticket(c, address, now)
    denial.challenge = check_challenge(c, told, challenge)
    if told != CHECK_STEP_UP or denial.ticket.len:
        denial.link = check_link(c, told, denial.ticket, address)
    if denial.client == CLIENT_PAGE and denial.link.len:
        # The page is fetched anew once the person comes back, whatever the method of this request was.
        denial.redirects = True
        denial.http = 303
        denial.challenge = slice_of(NULL, 0)


cdef void write_denied(CheckCall *c, uint32_t told, ClockReading now, Out *out) noexcept nogil:
    cdef CheckFacts facts = check_facts(c)
    cdef uint8_t challenge[CHALLENGE_MOST]
    cdef Denial denial
    denial_plain(c, &denial)
    if told == CHECK_SIGN_IN or told == CHECK_STEP_UP:
        denial_asks(c, told, now, challenge, &denial)
    elif c.result.reason == REASON_SESSION_UNVERIFIABLE or c.result.reason == REASON_INTERNAL_ERROR:
        # Another time it may be different.
        denial.http = 503
        denial.code = RPC_UNAVAILABLE
    write_denial_response(out, c.view, &facts, &denial, c.room)


cdef uint32_t check_write(CheckCall *c, ClockReading now, uint64_t *length) noexcept nogil:
    # The CheckResponse into the room; what it tells, as CHECK_*.
    cdef uint8_t *data = c.room.out + FRAMING
    cdef Out out = out_of(data, CHECK_ANSWER_MOST)
    cdef CheckFacts facts
    cdef uint32_t told
    cdef bint is_theirs
    if c.result.decision == DECISION_ALLOW and c.room.match.route != NULL:
        # INVARIANT: the only place that says OK.
        facts = check_facts(c)
        write_allow(
            &out, c.view, &facts, account_of(facts.principal), c.room.match.route.flags & ROUTE_FORWARD_TOKEN != 0, c.room
        )
        length[0] = out.here - data
        if LIKELY(not out.is_full):
            return CHECK_ALLOW
        # What the upstream would have to be told cannot be.
        c.result = implicit(LAYER_UNSPECIFIED, REASON_INTERNAL_ERROR)
        out = out_of(data, CHECK_ANSWER_MOST)
    told = check_told(c)
    if told != CHECK_ERROR:
        write_denied(c, told, now, &out)
        length[0] = out.here - data
        if LIKELY(not out.is_full):
            return told
    is_theirs = c.result.reason != REASON_NO_SNAPSHOT
    length[0] = write_refusal(
        data, c.view, c.result.reason, 400 if c.result.reason == REASON_REQUEST_INVALID else 503, is_theirs, is_theirs
    )
    return CHECK_ERROR


# Recording.

cdef inline void note_add(Out *out, Slice text, uint32_t most) noexcept nogil:
    # As UTF-8, whatever it is, and without what would end it.
    cdef uint8_t clean[3 * NOTE_PATH_MOST]
    cdef uint32_t size = min(text.len, most)
    cdef uint32_t i
    if size:
        size = text_clean(text.data, size, clean)
    for i in range(min(size, most)):
        out_byte(out, clean[i] if clean[i] else 63)
    out_byte(out, 0)


cdef uint32_t check_note(const CheckCall *c, uint8_t *data) noexcept nogil:
    # What a record says beside: *data* has room for NOTE_MOST.
    cdef const Attributes *a = &c.room.attributes
    cdef Out out = out_of(data, NOTE_MOST)
    cdef const uint8_t *question
    cdef Slice path
    if not c.was_read:
        return 0
    # A query may hold secrets.
    path = a.path
    question = <const uint8_t *>memchr(path.data, 63, path.len) if path.len else NULL
    if question != NULL:
        path.len = <uint32_t>(question - path.data)
    note_add(&out, route_id(c), NOTE_ID_MOST)
    note_add(&out, a.request_id if request_id_plain(a.request_id) else slice_of(NULL, 0), NOTE_ID_MOST)
    note_add(&out, a.method, NOTE_ID_MOST)
    note_add(&out, a.host, NOTE_ID_MOST)
    note_add(&out, path, NOTE_PATH_MOST)
    return <uint32_t>(out.here - data)


cdef void recorded_context(Out *out, const Request *request) noexcept nogil:
    cdef const ContextEntry *entry
    cdef uint8_t *pair
    cdef uint8_t *value
    cdef uint32_t i
    cdef uint32_t k
    for i in range(request.entry_count):
        entry = &request.entries[i]
        pair = out_open(out, 5)
        out_field(out, 1, entry.name.data, entry.name.len)
        value = out_open(out, 2)
        for k in range(entry.count):
            if request.values[entry.first + k].len:
                out_field(out, 1, request.values[entry.first + k].data, request.values[entry.first + k].len)
            else:
                out_bytes(out, b"\x0a\x00", 2)
        out_enum(out, 2, entry.multivalued)
        out_close(out, value)
        out_close(out, pair)


cdef Slice check_recorded(CheckCall *c) noexcept nogil:
    # The question as an AuthorizeRequest. INVARIANT: no token is ever recorded, as in request_recorded.
    cdef const Request *request = &c.desk.request
    cdef Out out = out_of(c.room.recorded, MAX_REQUEST_BYTES)
    cdef const uint8_t *without_context
    if request.has_session_token:
        if c.was_asked and c.e.token != NULL:
            out_field(&out, 2, c.e.token.access_key_id, TOKEN_ACCESS_KEY_ID_BYTES)
        else:
            out_field(&out, 2, b"unknown", 7)
    else:
        out_field(&out, 1, request.principal.data, request.principal.len)
    out_field(&out, 3, request.action.data, request.action.len)
    out_field(&out, 4, request.resource.data, request.resource.len)
    out_field(&out, 6, request.resource_account.data, request.resource_account.len)
    without_context = out.here
    recorded_context(&out, request)
    return slice_of(c.room.recorded, <uint32_t>((without_context if out.is_full else out.here) - c.room.recorded))


cdef void check_record(CheckCall *c, uint32_t told, ClockReading now, uint64_t decided) noexcept nogil:
    cdef Desk *desk = c.desk
    cdef RecordHeader header
    cdef uint8_t note[NOTE_MOST]
    cdef uint8_t *end
    cdef Slice question
    if not record_is_kept(desk, c.result.decision):
        record_or_defer(desk, c.result, told, c.shadow, NULL, NULL, NULL, NULL)
        return
    if c.room.match.route == NULL or c.room.match.route.flags & ROUTE_PUBLIC:
        request_clear(&desk.request)
    question = check_recorded(c)
    end = write_answer(desk.answer, c.image, &desk.request, c.result, &c.mfa, c.shadow)
    memset(&header, 0, sizeof(header))
    header.worker = desk.worker
    header.method = METHOD_CHECK
    header.decision = <uint8_t>c.result.decision
    header.request_len = question.len
    header.answer_len = <uint32_t>(end - desk.answer)
    header.note_len = check_note(c, note)
    header.size = record_size(&header)
    header.time = now.seconds * NANOS + now.nanos
    header.read_ns = <uint32_t>min(c.read - c.begun, <uint64_t>0xFFFFFFFF)
    header.decide_ns = <uint32_t>min(decided - c.read, <uint64_t>0xFFFFFFFF)
    record_or_defer(desk, c.result, told, c.shadow, &header, question.data, desk.answer, note)


cdef void answer_check(
    Desk *desk, const ImageView *image, Slice message, ClockReading now, Reply *reply
) noexcept nogil:
    # A CheckRequest to a CheckResponse; there is always one.
    cdef CheckCall c
    cdef uint64_t decided
    cdef uint32_t told
    reply_clear(reply)
    c.desk = desk
    c.view = desk.check
    c.room = desk.check_room
    c.image = image
    c.e.token = NULL
    c.mfa.needed = False
    c.shadow = DECISION_UNSPECIFIED
    c.was_read = False
    c.was_asked = False
    c.room.match.route = NULL
    c.begun = clock_monotonic()
    c.read = c.begun
    c.result = check_decide(&c, message, now)
    if UNLIKELY(image != NULL and image.shadow != NULL):
        check_shadow(&c, now)
    told = check_write(&c, now, &reply.answer_len)
    reply.answer = c.room.out
    decided = clock_monotonic()
    histogram_add(&desk.telemetry.reading, c.read - c.begun)
    histogram_add(&desk.telemetry.deciding, decided - c.read)
    check_record(&c, told, now, decided)
    if UNLIKELY(desk.staging.count != 0):
        reply_park(desk, reply)


cdef bint refuse_check(Desk *desk, uint32_t code, bint too_large, Reply *reply) noexcept nogil:
    # A CheckResponse to a call that fails before anything of it is decided, in place of a status, which a proxy may be told
    # to take for an allow. *code*: RPC_* that it would fail with. No decision is counted: there was none.
    cdef bint is_theirs = too_large or (code != RPC_RESOURCE_EXHAUSTED and code != RPC_DEADLINE_EXCEEDED)
    if desk.check == NULL:
        return False
    reply_clear(reply)
    reply.answer_len = write_refusal(
        reply.answer + FRAMING,
        desk.check,
        REASON_REQUEST_INVALID if is_theirs else REASON_INTERNAL_ERROR,
        413 if too_large else 400 if is_theirs else 503,
        is_theirs,
        is_theirs,
    )
    count_add(&desk.telemetry.told[CHECK_ERROR], 1)
    return True
