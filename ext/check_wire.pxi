# SPDX-License-Identifier: Apache-2.0
# Envoy's CheckResponse, written. SPEC: envoy/service/auth/v3/external_auth.proto.

cdef enum:
    # Members of CheckResponse.http_response.
    RESPONSE_DENIED = 2
    RESPONSE_OK = 3
    RESPONSE_ERROR = 5
    # HeaderValueOption.append_action: OVERWRITE_IF_EXISTS_OR_ADD. Envoy 1.40 does nothing else; what comes after it may.
    HEADER_OVERWRITES = 2
    BODY_DENIED_JSON = 0
    BODY_DENIED_HTML = 1
    BODY_STEP_UP_JSON = 2
    BODY_STEP_UP_HTML = 3
    BODY_COUNT = 4
    PROMPT_URL_MOST = 2048
    # A link into the prompt: a ticket, or a return address of which each byte may take three.
    LINK_MOST = PROMPT_URL_MOST + 64 + 3 * TICKET_MAX_RETURN_ADDRESS
    DETAILS_MOST = LINK_MOST + TICKET_MOST + 1024
    DETAILS_TEXT_MOST = 2 * DETAILS_MOST
    # The longest `cookie` that is written anew.
    COOKIE_MOST = 64 * 1024
    CHECK_ANSWER_MOST = 512 * 1024
    # A CheckResponse that says no more than that it was not decided.
    CHECK_REFUSAL_MOST = 500


# A piece of a body: text, or what is filled in.
cdef struct BodyPiece:
    Slice text
    uint32_t fill             # FILL_*


cdef struct BodyTemplate:
    const BodyPiece *pieces
    uint32_t count
    bint is_html
    bint is_ours


# How requests of Envoy are answered, beside what an image says. Immutable; belongs to a CheckPlan.
cdef struct CheckView:
    uint32_t trusted_hops
    bint sends_errors         # error_response, so that the proxy's own setting decides
    bint step_up_hints
    Slice prompt_url          # empty: there are no such pages
    Slice cookie_name         # empty: there is none
    Slice removals            # OkHttpResponse.headers_to_remove: spellings of identity headers that are never ours
    BodyTemplate bodies[BODY_COUNT]


# What a thread needs to answer Envoy. Most of it is memory that is not there before it is used.
cdef struct CheckRoom:
    Attributes attributes
    Target target
    RouteMatch match
    CallerFound caller
    RouteRoom route
    RouteMatch shadow_match   # the same, with what stands in shadow
    CallerFound shadow_caller
    RouteRoom shadow_route
    uint8_t return_address[TICKET_MAX_RETURN_ADDRESS]
    uint8_t ticket[TICKET_MOST]
    uint8_t link[LINK_MOST]
    uint8_t details[DETAILS_MOST]
    uint8_t details_text[DETAILS_TEXT_MOST]
    uint8_t cookie[COOKIE_MOST]
    uint8_t recorded[MAX_REQUEST_BYTES]
    uint8_t out[FRAMING + CHECK_ANSWER_MOST]


# What everybody who reads the proxy's log may know of a decision; it is no secret to it.
cdef struct CheckFacts:
    uint32_t decision
    uint32_t reason
    uint32_t shadow           # DECISION_*; DECISION_UNSPECIFIED: nothing is in shadow
    Slice principal
    Slice route
    Slice revision


# What a client is told. Slices point into the request and the room.
cdef struct Denial:
    uint32_t client           # CLIENT_*
    uint32_t http             # status
    uint32_t code             # RPC_*
    bint asks_for_proof       # else for a sign-in, or for nothing
    bint redirects
    const char *error         # the word in bodies
    const char *text          # a sentence for people
    const char *problem       # ErrorInfo.reason
    Slice challenge           # WWW-Authenticate; empty: none
    Slice request_id
    Slice link                # into the prompt; empty: there is none
    Slice ticket
    const MfaAnswer *mfa      # where a proof is asked for


cdef inline const char *decision_word(uint32_t decision) noexcept nogil:
    if decision == DECISION_ALLOW:
        return b"allow"
    return b"explicit_deny" if decision == DECISION_EXPLICIT_DENY else b"implicit_deny"


cdef bint request_id_plain(Slice text) noexcept nogil:
    # Whether it can be repeated anywhere as it is.
    cdef uint32_t i
    cdef uint8_t c
    for i in range(text.len):
        c = text.data[i]
        if not (97 <= fold_byte(c) <= 122 or 48 <= c <= 57 or c == 46 or c == 95 or c == 45):
            return False
    return 0 < text.len <= 64


cdef bint header_plain(Slice text) noexcept nogil:
    # Whether it can be the value of a header.
    cdef uint32_t i
    for i in range(text.len):
        if text.data[i] < 32 or text.data[i] > 126:
            return False
    return True


cdef void out_percent(Out *out, Slice text) noexcept nogil:
    # SPEC: RFC 3986, section 2.3: all but unreserved characters, encoded.
    cdef const char *digits = b"0123456789ABCDEF"
    cdef uint32_t i
    cdef uint8_t c
    for i in range(text.len):
        c = text.data[i]
        if 97 <= fold_byte(c) <= 122 or 48 <= c <= 57 or c == 45 or c == 46 or c == 95 or c == 126:
            out_byte(out, c)
        else:
            out_byte(out, 37)
            out_byte(out, digits[c >> 4])
            out_byte(out, digits[c & 15])


# The frame.

cdef uint8_t *response_open(Out *out, uint32_t code, uint32_t member) noexcept nogil:
    # Begin a CheckResponse and the member of its http_response.
    # INVARIANT: Envoy takes a response without a status for OK, so none leaves without one; and OK goes with ok_response
    # and nothing else.
    cdef uint8_t *status
    if UNLIKELY((code == RPC_OK) != (member == RESPONSE_OK)):
        code = RPC_UNKNOWN
        member = RESPONSE_DENIED
    status = out_open(out, 1)
    out_enum(out, 1, code)
    out_close(out, status)
    return out_open(out, member)


cdef void out_header(Out *out, const char *name, Slice value) noexcept nogil:
    # A HeaderValueOption, which has the same number in DeniedHttpResponse and OkHttpResponse. One without a value is left out.
    cdef uint8_t *option
    cdef uint8_t *header
    if value.len == 0:
        return
    option = out_open(out, 2)
    header = out_open(out, 1)
    out_field(out, 1, name, <uint32_t>strlen(name))
    out_field(out, 2, value.data, value.len)
    out_close(out, header)
    out_enum(out, 3, HEADER_OVERWRITES)
    out_close(out, option)


cdef inline void out_header_text(Out *out, const char *name, const char *value) noexcept nogil:
    out_header(out, name, slice_literal(value, <uint32_t>strlen(value)))


cdef void out_fact(Out *out, const char *name, Slice text) noexcept nogil:
    # An entry of a google.protobuf.Struct whose value is a text.
    cdef uint8_t *entry
    cdef uint8_t *value
    if text.len == 0:
        return
    entry = out_open(out, 1)
    out_field(out, 1, name, <uint32_t>strlen(name))
    value = out_open(out, 2)
    out_field(out, 3, text.data, text.len)
    out_close(out, value)
    out_close(out, entry)


cdef void write_facts(Out *out, const CheckFacts *facts) noexcept nogil:
    # CheckResponse.dynamic_metadata.
    cdef uint8_t *begun = out_open(out, 4)
    cdef const char *word = decision_word(facts.decision)
    out_fact(out, b"decision", slice_literal(word, <uint32_t>strlen(word)))
    word = REASON_WORDS[facts.reason]
    out_fact(out, b"reason", slice_literal(word, <uint32_t>strlen(word)))
    out_fact(out, b"principal", facts.principal)
    out_fact(out, b"route", facts.route)
    out_fact(out, b"snapshot_revision", facts.revision)
    if facts.shadow != DECISION_UNSPECIFIED:
        word = decision_word(facts.shadow)
        out_fact(out, b"shadow_decision", slice_literal(word, <uint32_t>strlen(word)))
    out_close(out, begun)


# OK.

cdef void out_removal(Out *out, const char *name) noexcept nogil:
    out_field(out, 5, name, <uint32_t>strlen(name))


cdef void out_identity(Out *out, const char *name, Slice value) noexcept nogil:
    # A header in which we speak. Where we have nothing to say nobody else does.
    if value.len:
        out_header(out, name, value)
    else:
        out_removal(out, name)


cdef inline bint is_ours(Slice name) noexcept nogil:
    # One of the headers that are set or removed by name.
    return (
        slice_equals(name, <const uint8_t *>b"x-iam-principal", 15)
        or slice_equals(name, <const uint8_t *>b"x-iam-account", 13)
        or slice_equals(name, <const uint8_t *>b"x-iam-route", 11)
    )


cdef void write_credentials(Out *out, const Attributes *a, const CheckView *view, CheckRoom *room) noexcept nogil:
    # Take session tokens out of what the upstream gets.
    cdef Out cookie = out_of(room.cookie, COOKIE_MOST)
    cdef uint32_t cookies
    if bearer_is_ours(a):
        out_removal(out, b"authorization")
    cookies = cookies_strip(a, view.cookie_name, &cookie)
    if cookies == COOKIES_CUT:
        out_header(out, b"cookie", slice_of(room.cookie, <uint32_t>(cookie.here - room.cookie)))
    elif cookies == COOKIES_GONE:
        out_removal(out, b"cookie")
    out.is_full |= cookie.is_full


cdef void write_allow(
    Out *out, const CheckView *view, const CheckFacts *facts, Slice account, bint forwards_token, CheckRoom *room
) noexcept nogil:
    # SPEC: Envoy removes after it has set, so what is set must not be among what is removed.
    cdef const Attributes *a = &room.attributes
    cdef uint32_t i
    cdef uint8_t *begun
    out.is_full |= not header_plain(facts.principal) or not header_plain(facts.route)
    begun = response_open(out, RPC_OK, RESPONSE_OK)
    out_identity(out, b"x-iam-principal", facts.principal)
    out_identity(out, b"x-iam-account", account)
    out_identity(out, b"x-iam-route", facts.route)
    if not forwards_token:
        write_credentials(out, a, view, room)
    out_slice(out, view.removals)
    for i in range(a.header_count):
        if UNLIKELY(header_is_identity(a.headers[i].name)) and not is_ours(a.headers[i].name):
            out_field(out, 5, a.headers[i].name.data, a.headers[i].name.len)
    out_close(out, begun)
    write_facts(out, facts)


# Denials.

cdef void out_escaped(Out *out, Slice text, bint is_html) noexcept nogil:
    # SPEC: RFC 8259, section 7; HTML, section 13.1.2.
    cdef uint32_t i
    cdef uint8_t c
    for i in range(text.len):
        c = text.data[i]
        if c == 38 and is_html:
            out_text(out, b"&amp;")
        elif c == 60:
            out_text(out, b"&lt;" if is_html else b"\\u003c")
        elif c == 62:
            out_text(out, b"&gt;" if is_html else b"\\u003e")
        elif c == 34:
            out_text(out, b"&quot;" if is_html else b"\\\"")
        elif c == 39 and is_html:
            out_text(out, b"&#39;")
        elif c == 92 and not is_html:
            out_text(out, b"\\\\")
        elif c >= 32:
            out_byte(out, c)


cdef void out_methods(Out *out, const MfaAnswer *mfa, const char *between, const char *round_) noexcept nogil:
    # The factors that would do, the safest first.
    cdef uint32_t[4] order
    cdef uint32_t written = 0
    cdef uint32_t i
    order[0] = MFA_WEBAUTHN
    order[1] = MFA_U2F
    order[2] = MFA_TOTP
    order[3] = MFA_RECOVERY
    if mfa == NULL:
        return
    for i in range(4):
        if mfa.methods >> order[i] & 1:
            if written:
                out_text(out, between)
            out_text(out, round_)
            out_text(out, MFA_WORDS[order[i]])
            out_text(out, round_)
            written += 1


cdef void out_fill(Out *out, const Denial *denial, uint32_t fill, bint is_html) noexcept nogil:
    if fill == FILL_REQUEST_ID:
        out_escaped(out, denial.request_id, is_html)
    elif fill == FILL_PROMPT_URL:
        out_escaped(out, denial.link, is_html)
    elif fill == FILL_STEP_UP_TICKET:
        out_escaped(out, denial.ticket, is_html)
    elif fill == FILL_ERROR:
        out_text(out, denial.error)
    elif fill == FILL_MAX_AGE:
        if denial.mfa != NULL and denial.mfa.has_max_age:
            out_decimal(out, denial.mfa.max_age)
        elif not is_html:
            out_text(out, b"null")
    elif fill == FILL_METHODS:
        if is_html:
            out_methods(out, denial.mfa, b", ", b"")
        else:
            out_byte(out, 91)
            out_methods(out, denial.mfa, b",", b"\"")
            out_byte(out, 93)


cdef void out_body(Out *out, const BodyTemplate *body, const Denial *denial) noexcept nogil:
    cdef uint8_t *begun = out_open(out, 3)
    cdef uint32_t i
    for i in range(body.count):
        if body.pieces[i].fill == FILL_TEXT:
            out_slice(out, body.pieces[i].text)
        else:
            out_fill(out, denial, body.pieces[i].fill, body.is_html)
    out_close(out, begun)


cdef void out_detail(Out *out, const char *name, Slice text) noexcept nogil:
    # An entry of ErrorInfo.metadata.
    cdef uint8_t *entry
    if text.len:
        entry = out_open(out, 3)
        out_field(out, 1, name, <uint32_t>strlen(name))
        out_field(out, 2, text.data, text.len)
        out_close(out, entry)


cdef Slice write_details(const Denial *denial, CheckRoom *room) noexcept nogil:
    # A google.rpc.Status with a google.rpc.ErrorInfo, as grpc-status-details-bin travels; empty: there is no room for it.
    # SPEC: google/rpc/error_details.proto. Clients compare code and message with grpc-status and grpc-message.
    cdef Out out = out_of(room.details, DETAILS_MOST)
    cdef uint8_t number[20]
    cdef uint8_t words[64]
    cdef Out methods = out_of(words, 64)
    cdef uint8_t *any
    cdef uint8_t *info
    out_enum(&out, 1, denial.code)
    out_field(&out, 2, denial.text, <uint32_t>strlen(denial.text))
    any = out_open(&out, 3)
    out_field(&out, 1, b"type.googleapis.com/google.rpc.ErrorInfo", 40)
    info = out_open(&out, 2)
    out_field(&out, 1, denial.problem, <uint32_t>strlen(denial.problem))
    out_field(&out, 2, b"iam-sidecar", 11)
    out_detail(&out, b"prompt_url", denial.link)
    out_detail(&out, b"step_up_ticket", denial.ticket)
    if denial.mfa != NULL:
        out_methods(&methods, denial.mfa, b" ", b"")
        out_detail(&out, b"methods", slice_of(words, <uint32_t>(methods.here - words)))
        if denial.mfa.has_max_age:
            out_detail(&out, b"max_age", slice_of(number, write_number(denial.mfa.max_age, number)))
    out_close(&out, info)
    out_close(&out, any)
    if out.is_full:
        return slice_of(NULL, 0)
    return slice_of(
        room.details_text,
        base64_write(room.details, <uint32_t>(out.here - room.details), BASE64, room.details_text),
    )


cdef inline const BodyTemplate *denial_body(const CheckView *view, const Denial *denial) noexcept nogil:
    # A page asks for something only where there is a page to do it on.
    cdef bint asks = denial.asks_for_proof or denial.link.len != 0
    if denial.client == CLIENT_API:
        return &view.bodies[BODY_STEP_UP_JSON if denial.asks_for_proof else BODY_DENIED_JSON]
    return &view.bodies[BODY_STEP_UP_HTML if asks and denial.link.len else BODY_DENIED_HTML]


cdef void write_denial_headers(Out *out, const CheckView *view, const Denial *denial, CheckRoom *room) noexcept nogil:
    out_header(out, b"x-request-id", denial.request_id)
    out_header_text(out, b"cache-control", b"no-store")
    out_header(out, b"www-authenticate", denial.challenge)
    if denial.redirects:
        out_header(out, b"location", denial.link)
    elif denial.client == CLIENT_GRPC:
        out_header(out, b"grpc-status-details-bin", write_details(denial, room))
    elif denial.client == CLIENT_API:
        out_header_text(out, b"content-type", b"application/json")
    else:
        out_header_text(out, b"content-type", b"text/html; charset=utf-8")
        if denial_body(view, denial).is_ours:
            out_header_text(
                out, b"content-security-policy",
                b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            )


cdef void write_denial_response(
    Out *out, const CheckView *view, const CheckFacts *facts, const Denial *denial, CheckRoom *room
) noexcept nogil:
    cdef uint8_t *begun = response_open(out, denial.code, RESPONSE_DENIED)
    cdef uint8_t *status = out_open(out, 1)
    out_enum(out, 1, denial.http)
    out_close(out, status)
    write_denial_headers(out, view, denial, room)
    if denial.client == CLIENT_GRPC:
        out_field(out, 3, denial.text, <uint32_t>strlen(denial.text))
    elif not denial.redirects:
        out_body(out, denial_body(view, denial), denial)
    out_close(out, begun)
    write_facts(out, facts)


cdef uint32_t write_refusal(
    uint8_t *data, const CheckView *view, uint32_t reason, uint32_t http, bint is_theirs, bint is_closed
) noexcept nogil:
    # A CheckResponse to what was not decided. *is_theirs*: a client has brought it about. *is_closed*: it is a denial
    # whatever the settings say, so that nobody talks a proxy into letting requests through. Returns its length, at most
    # CHECK_REFUSAL_MOST.
    cdef Out out = out_of(data, CHECK_REFUSAL_MOST)
    cdef CheckFacts facts
    cdef const char *text = b"the request is refused" if is_theirs else b"authorization is not available"
    cdef uint8_t *begun
    cdef uint8_t *status
    memset(&facts, 0, sizeof(facts))
    facts.decision = DECISION_IMPLICIT_DENY
    facts.reason = reason
    begun = response_open(
        &out, RPC_INVALID_ARGUMENT if is_theirs else RPC_UNAVAILABLE,
        RESPONSE_ERROR if view.sends_errors and not is_closed else RESPONSE_DENIED,
    )
    status = out_open(&out, 1)
    out_enum(&out, 1, http)
    out_close(&out, status)
    out_header_text(&out, b"cache-control", b"no-store")
    out_field(&out, 3, text, <uint32_t>strlen(text))
    out_close(&out, begun)
    write_facts(&out, &facts)
    return <uint32_t>(out.here - data)
