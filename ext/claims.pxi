# SPDX-License-Identifier: Apache-2.0
# The claims of a session token, as sidecar.compile.session_claims writes them: read once, every bound checked.

cdef enum:
    # The last moment that has a date of four digits, in milliseconds.
    CLAIMS_LAST_MOMENT = 253402300799999
    CLAIMS_ID_MOST = 256
    POLICIES_HEAD = 4
    POLICIES_ENTRY = 4
    # Compiled session policies stand at a multiple of this.
    POLICIES_ALIGNMENT = 8
    # Behind the claims: a whole ARN, and policies where they can be read in place.
    CLAIMS_SPARE = MAX_PRINCIPAL + POLICIES_ALIGNMENT + TOKEN_RAW_MOST
    # Words of policy sets that a token has room for, by SET_ALIGNMENT, and one more.
    POLICIES_SETS = TOKEN_RAW_MOST // (4 * SET_ALIGNMENT) + 1


# A factor that was proved.
cdef struct Proof:
    bint holds                # there is one, and its device counts
    bint user_verified
    uint32_t method           # MFA_*
    int64_t proved_at         # milliseconds since the epoch
    Slice serial              # of the device; empty: there is none
    Slice span                # where it stands in the claims, with what it is bound to


cdef struct SessionTag:
    Slice key                 # as written
    Slice value


# What a token says. Slices point into the memory of whoever holds it.
cdef struct Session:
    uint32_t kind             # SESSION_*
    uint32_t caller           # CALLER_*
    uint32_t principal_len    # of the ARN: what an image knows the principal by
    uint32_t principal_hash
    uint32_t person_hash
    bint is_revoked
    const uint8_t *access_key_id
    int64_t issued_at         # milliseconds since the epoch, and likewise below
    int64_t expires_at
    int64_t lineage_issued_at
    int64_t latest            # nothing in it happened later
    Slice lineage
    Slice arn
    Slice principal_id
    Slice name                # of the session of a role
    Slice person              # empty: nobody can prove anything
    Slice person_id
    Slice person_account
    Slice source_identity
    Proof mfa
    Proof bound
    Slice bound_action
    Slice bound_resource
    Slice claims              # all of it
    uint32_t tag_count
    const SessionTag *tags
    const ImageView *policies # of session policies; NULL: there are none


# Where the parts of a session stand whose number varies. Owned by whoever holds it.
cdef struct SessionRoom:
    SessionTag tags[MAX_SESSION_TAGS]
    ImageView policies
    ImageHeader header        # of *policies*, which have none of their own


# What is left to read of claims. Confined to one call.
cdef struct ClaimsReader:
    const uint8_t *here
    const uint8_t *end
    bint failed               # it ended too soon, or something in it cannot be


cdef inline const uint8_t *claims_take(ClaimsReader *reader, uint32_t count) noexcept nogil:
    # The next *count* bytes; NULL: there are fewer.
    cdef const uint8_t *taken = reader.here
    if reader.failed or <uint64_t>(reader.end - reader.here) < count:
        reader.failed = True
        return NULL
    reader.here += count
    return taken


cdef inline uint32_t claims_byte(ClaimsReader *reader, uint32_t most) noexcept nogil:
    # The next byte, at most *most*.
    cdef const uint8_t *taken = claims_take(reader, 1)
    if taken == NULL or taken[0] > most:
        reader.failed = True
        return 0
    return taken[0]


cdef inline int64_t claims_moment(ClaimsReader *reader) noexcept nogil:
    cdef int64_t moment = 0
    cdef const uint8_t *taken = claims_take(reader, 8)
    if taken != NULL:
        memcpy(&moment, taken, 8)
    if moment < 0 or moment > CLAIMS_LAST_MOMENT:
        reader.failed = True
        return 0
    return moment


cdef Slice claims_text(ClaimsReader *reader) noexcept nogil:
    cdef uint16_t length = 0
    cdef const uint8_t *taken = claims_take(reader, 2)
    if taken != NULL:
        memcpy(&length, taken, 2)
        taken = claims_take(reader, length)
    if taken == NULL or text_check(taken, length) != TEXT_VALID:
        reader.failed = True
        return slice_of(NULL, 0)
    return slice_of(taken, length)


cdef void claims_proof(ClaimsReader *reader, Proof *proof) noexcept nogil:
    proof.method = claims_byte(reader, MFA_WORDS_COUNT - 1)
    proof.user_verified = claims_byte(reader, 1)
    proof.proved_at = claims_moment(reader)
    proof.serial = claims_text(reader)
    proof.holds = not reader.failed


cdef inline Slice account_of_arn(Slice text) noexcept nogil:
    # The fifth field of an ARN; empty: it is none.
    cdef ArnText arn
    if not arn_parse(text.data, text.len, &arn):
        return slice_of(NULL, 0)
    return arn_field(&arn, 4)


cdef extern from *:
    """
    /* A table in which nothing is found. */
    static const uint32_t NO_TABLE[1] = {0};
    """
    const uint32_t NO_TABLE[1]


cdef inline bint section_is_table(uint32_t section) noexcept nogil:
    return (
        section == SECTION_PRINCIPAL_TABLE
        or section == SECTION_ACCOUNT_TABLE
        or section == SECTION_SERVICE_TABLE
        or section == SECTION_ACTION_TABLE
        or section == SECTION_KEY_TABLE
        or section == SECTION_RESOURCE_POLICY_TABLE
        or section == SECTION_WILDCARD_POLICY_TABLE
        or section == SECTION_ROLE_TRUST_TABLE
    )


cdef bint policies_place(Slice packed, ImageView *view, const uint8_t **place) noexcept nogil:
    # Find out where each section of packed policies stands and how many records it has.
    cdef uint64_t end
    cdef uint32_t before = 0
    cdef uint32_t i
    cdef uint16_t head[2]     # version, number of entries
    cdef uint16_t entry[2]    # section, number of records
    if packed.len < POLICIES_HEAD:
        return False
    memcpy(head, packed.data, POLICIES_HEAD)
    end = POLICIES_HEAD + <uint64_t>POLICIES_ENTRY * head[1]
    if head[0] != IMAGE_FORMAT_VERSION or end > packed.len:
        return False
    for i in range(SECTION_COUNT):
        # A section that is not there has no record; a table without one has a place where searches end.
        view.counts[i] = 1 if section_is_table(i) else 0
        place[i] = <const uint8_t *>NO_TABLE
    for i in range(head[1]):
        memcpy(entry, packed.data + POLICIES_HEAD + POLICIES_ENTRY * i, POLICIES_ENTRY)
        end = (end + POLICIES_ALIGNMENT - 1) & ~<uint64_t>(POLICIES_ALIGNMENT - 1)
        if entry[0] >= SECTION_COUNT or (i and entry[0] <= before) or end > packed.len:
            return False
        place[entry[0]] = packed.data + end
        view.counts[entry[0]] = entry[1]
        end += <uint64_t>entry[1] * RECORD_SIZES[entry[0]]
        before = entry[0]
    return end == packed.len


cdef bint policies_bind(Slice packed, SessionRoom *room) noexcept nogil:
    # Point room.policies at compiled session policies, as sidecar.compile.session_policies packs them, and prove them
    # sound. *packed* stands at a multiple of POLICIES_ALIGNMENT and is no longer than a token.
    cdef ImageView *view = &room.policies
    cdef const uint8_t *place[SECTION_COUNT]
    cdef uint8_t begins[POLICIES_SETS]
    memset(&room.header, 0, sizeof(ImageHeader))
    room.header.only_account = IMAGE_NONE
    memset(view, 0, sizeof(ImageView))
    view.header = &room.header
    view.base = packed.data
    view.size = packed.len
    view.iam_service = view.sts_service = view.kms_service = IMAGE_NONE
    if not policies_place(packed, view, place):
        return False
    view_point(view, place)
    memset(begins, 0, sizeof(begins))
    return (
        view.counts[SECTION_SESSION_SETS] == 1
        and view.counts[SECTION_PRINCIPAL_ENTRIES] == 0
        and image_unsound(view, begins) == NULL
    )


cdef bint claims_texts(ClaimsReader *reader, Session *session) noexcept nogil:
    # Who it is; session.arn is only what an image knows them by.
    session.arn = claims_text(reader)
    session.principal_id = claims_text(reader)
    session.name = claims_text(reader)
    session.person = claims_text(reader)
    session.person_id = claims_text(reader)
    session.source_identity = claims_text(reader)
    if reader.failed:
        return False
    session.caller = CALLER_ROLE if session.kind == SESSION_ROLE else CALLER_USER
    session.principal_len = session.arn.len
    session.principal_hash = hash_text(session.arn.data, session.arn.len)
    session.person_hash = hash_text(session.person.data, session.person.len)
    session.person_account = account_of_arn(session.person)
    return (
        0 < session.arn.len <= MAX_PRINCIPAL - 65
        and 0 < session.principal_id.len <= CLAIMS_ID_MOST
        and (session.person.len == 0) == (session.person_id.len == 0)
        and (session.person.len == 0) == (session.person_account.len == 0)
        and (session_name_valid(session.name) if session.kind == SESSION_ROLE else session.name.len == 0)
    )


cdef void claims_proofs(ClaimsReader *reader, uint32_t flags, Session *session) noexcept nogil:
    memset(&session.mfa, 0, sizeof(Proof))
    memset(&session.bound, 0, sizeof(Proof))
    session.bound_action = session.bound_resource = slice_of(NULL, 0)
    session.latest = max(session.issued_at, session.lineage_issued_at)
    if flags & CLAIMS_HAS_MFA:
        session.mfa.span.data = reader.here
        claims_proof(reader, &session.mfa)
        session.mfa.span.len = <uint32_t>(reader.here - session.mfa.span.data)
        session.latest = max(session.latest, session.mfa.proved_at)
    if flags & CLAIMS_HAS_BOUND:
        session.bound.span.data = reader.here
        claims_proof(reader, &session.bound)
        session.bound_action = claims_text(reader)
        session.bound_resource = claims_text(reader)
        session.bound.span.len = <uint32_t>(reader.here - session.bound.span.data)
        session.latest = max(session.latest, session.bound.proved_at)


cdef void claims_tags(ClaimsReader *reader, Session *session, SessionRoom *room) noexcept nogil:
    cdef uint16_t count = 0
    cdef const uint8_t *taken = claims_take(reader, 2)
    cdef uint32_t i
    if taken != NULL:
        memcpy(&count, taken, 2)
    if count > MAX_SESSION_TAGS:
        reader.failed = True
        return
    session.tag_count = count
    session.tags = room.tags
    for i in range(count):
        # Whether it is transitive matters to those who make sessions.
        claims_byte(reader, 1)
        room.tags[i].key = claims_text(reader)
        room.tags[i].value = claims_text(reader)


cdef uint8_t *session_name_whole(Session *session, uint8_t *spare) noexcept nogil:
    # Write the ARN of a role's session to *spare*: role, slash, name of the session. Returns where that ends.
    cdef uint32_t length = session.arn.len
    if session.kind != SESSION_ROLE:
        return spare
    # SAFETY: claims_texts has seen that this is no longer than MAX_PRINCIPAL.
    memcpy(spare, session.arn.data, length)
    spare[length] = 47
    memcpy(spare + length + 1, session.name.data, session.name.len)
    session.arn = slice_of(spare, length + 1 + session.name.len)
    return spare + session.arn.len


cdef bint claims_read(uint8_t *data, uint32_t length, Session *session, SessionRoom *room) noexcept nogil:
    # Read claims whose seal held. Behind them *data* has room for CLAIMS_SPARE more. False: they are none of this version.
    cdef ClaimsReader reader
    cdef const uint8_t *taken
    cdef uint32_t flags
    cdef uint32_t size = 0
    cdef uint8_t *spare
    cdef uint8_t *aligned
    reader.here = data
    reader.end = data + length
    reader.failed = False
    session.claims = slice_of(data, length)
    session.is_revoked = False
    session.policies = NULL
    if claims_byte(&reader, CLAIMS_FORMAT) != CLAIMS_FORMAT:
        return False
    session.kind = claims_byte(&reader, SESSION_ROLE)
    flags = claims_byte(&reader, CLAIMS_IS_CHAINED | CLAIMS_HAS_MFA | CLAIMS_HAS_BOUND)
    claims_byte(&reader, 0)
    session.lineage = slice_of(claims_take(&reader, 16), 16)
    session.issued_at = claims_moment(&reader)
    session.expires_at = claims_moment(&reader)
    session.lineage_issued_at = claims_moment(&reader)
    if reader.failed or session.kind < SESSION_SIGN_IN or not claims_texts(&reader, session):
        return False
    claims_proofs(&reader, flags, session)
    claims_tags(&reader, session, room)
    taken = claims_take(&reader, 4)
    if taken != NULL:
        memcpy(&size, taken, 4)
    taken = claims_take(&reader, size)
    if taken == NULL or reader.here != reader.end:
        return False
    spare = session_name_whole(session, data + length)
    if size:
        aligned = <uint8_t *>((<size_t>spare + POLICIES_ALIGNMENT - 1) & ~<size_t>(POLICIES_ALIGNMENT - 1))
        memcpy(aligned, taken, size)
        if not policies_bind(slice_of(aligned, size), room):
            return False
        session.policies = &room.policies
    return True
