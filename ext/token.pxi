# SPDX-License-Identifier: Apache-2.0
# Session tokens: opened when they come for the first time, known again when they come once more.

cdef enum:
    # Tokens that are known again, in pairs of which one gives way.
    TOKEN_PAIRS = 64
    TOKEN_SLOTS = 2 * TOKEN_PAIRS
    TOKEN_TEXT = MAX_SESSION_TOKEN + TOKEN_RAW_MOST + CLAIMS_SPARE
    # By the last characters of a token, which belong to the tag of its seal, it finds its pair.
    TOKEN_TAIL = 16


# One token and what it says. What a short one needs stands together, so that it touches little memory.
cdef struct TokenSlot:
    Session session
    uint8_t text[TOKEN_TEXT]  # the token, its claims, what stands behind them
    SessionRoom room


# What a thread opens tokens with. Confined to it.
cdef struct Opener:
    Crypto crypto
    const SessionKeys *keys   # of the call under way; NULL: none is ours
    uint64_t number           # of the keys and revocations that the slots were filled by
    TokenSlot *slots          # owned; TOKEN_SLOTS and one more
    uint32_t lengths[TOKEN_SLOTS]  # of the token in each half of each pair; 0: there is none
    uint16_t places[TOKEN_SLOTS]  # which slot it stands in
    uint16_t spare            # the slot that stands for none
    uint8_t newer[TOKEN_PAIRS]    # the half that was used last
    uint64_t opened           # tokens, those included that were none of ours; others may read it
    uint64_t known_again      # likewise


cdef void opener_forget(Opener *opener) noexcept nogil:
    # Without a look at the slots, most of which were never touched.
    cdef uint32_t i
    for i in range(TOKEN_SLOTS):
        opener.places[i] = <uint16_t>i
        opener.lengths[i] = 0
    opener.spare = TOKEN_SLOTS
    memset(opener.newer, 0, sizeof(opener.newer))


cdef void proof_revoke(Opener *opener, Proof *proof) noexcept nogil:
    cdef int64_t moment
    if revoked_before(&opener.crypto, opener.keys, REVOKED_DEVICE, proof.serial, &moment) and proof.proved_at <= moment:
        proof.holds = False


cdef void session_revoke(Opener *opener, Session *session) noexcept nogil:
    # SPEC: docs/semantics.md, section 5: what each kind of revocation ends.
    cdef Crypto *crypto = &opener.crypto
    cdef const SessionKeys *keys = opener.keys
    cdef int64_t moment
    session.is_revoked = (
        (revoked_before(crypto, keys, REVOKED_PRINCIPAL, session.principal_id, &moment) and session.issued_at <= moment)
        or (
            revoked_before(crypto, keys, REVOKED_PRINCIPAL, session.person_id, &moment)
            and session.lineage_issued_at <= moment
        )
        # Whatever grew from it, whenever: a clock that is ahead saves nobody.
        or revoked_before(crypto, keys, REVOKED_LINEAGE, session.lineage, &moment)
    )
    proof_revoke(opener, &session.mfa)
    proof_revoke(opener, &session.bound)


cdef inline bint access_key_id_valid(const uint8_t *id) noexcept nogil:
    cdef uint32_t i
    for i in range(TOKEN_ACCESS_KEY_ID_BYTES):
        if not (65 <= id[i] <= 90 or 48 <= id[i] <= 57):
            return False
    return True


cdef bint slot_fill(Opener *opener, TokenSlot *slot, Slice token) noexcept nogil:
    # Open a token that is not known. False: it is none of ours.
    cdef uint8_t *raw = slot.text + token.len
    cdef uint8_t *claims = raw + TOKEN_HEADER_BYTES + TOKEN_NONCE_BYTES
    cdef uint32_t length = base64url_read(token, raw)
    count_add(&opener.opened, 1)
    length = seal_open(&opener.crypto, opener.keys, raw, length)
    if length == 0 or not claims_read(claims, length, &slot.session, &slot.room):
        return False
    slot.session.access_key_id = raw + 1 + TOKEN_KEY_ID_BYTES
    if not access_key_id_valid(slot.session.access_key_id):
        return False
    session_revoke(opener, &slot.session)
    memcpy(slot.text, token.data, token.len)
    return True


cdef const Session *token_find(Opener *opener, Slice token) noexcept nogil:
    # What a token says, opened now or before; NULL: it is none of ours. Stands until the next token is looked for.
    cdef uint32_t pair
    cdef uint32_t half
    cdef uint32_t place
    cdef uint16_t given_up
    cdef TokenSlot *slot
    if opener == NULL or opener.keys == NULL or token.len < TOKEN_TAIL or token.len > MAX_SESSION_TOKEN:
        return NULL
    if opener.number != opener.keys.number:
        opener_forget(opener)
        opener.number = opener.keys.number
    pair = hash_text(token.data + token.len - TOKEN_TAIL, TOKEN_TAIL) & (TOKEN_PAIRS - 1)
    for half in range(2):
        place = 2 * pair + half
        slot = &opener.slots[opener.places[place]]
        # INVARIANT: all of it is compared, so that nobody is let in by a part of a token.
        if opener.lengths[place] == token.len and memcmp(slot.text, token.data, token.len) == 0:
            opener.newer[pair] = <uint8_t>half
            count_add(&opener.known_again, 1)
            return &slot.session
    # What turns out to be none of ours drives nobody out.
    slot = &opener.slots[opener.spare]
    if not slot_fill(opener, slot, token):
        return NULL
    half = 1 - opener.newer[pair]
    place = 2 * pair + half
    given_up = opener.places[place]
    opener.places[place] = opener.spare
    opener.lengths[place] = token.len
    opener.spare = given_up
    opener.newer[pair] = <uint8_t>half
    return &slot.session


cdef uint32_t session_refusal(
    const Session *session, const SessionKeys *keys, int64_t now, uint64_t monotonic
) noexcept nogil:
    # Why a session does not count at *now*, in milliseconds since the epoch; REASON_UNSPECIFIED: it counts. Asked for every
    # request, known again or not.
    if now + CLOCK_SKEW_MS < session.latest:
        return REASON_SESSION_INVALID
    if now >= session.expires_at:
        return REASON_SESSION_EXPIRED
    if session.is_revoked:
        return REASON_SESSION_REVOKED
    if monotonic > atomic_get(&keys.valid_until):
        return REASON_SESSION_UNVERIFIABLE
    return REASON_UNSPECIFIED


cdef inline int64_t moment_ms(int64_t seconds, uint32_t nanos) noexcept nogil:
    # Milliseconds since the epoch; what lies beyond the years of four digits counts as their end.
    if seconds > CLAIMS_LAST_MOMENT // 1000:
        return CLAIMS_LAST_MOMENT
    return seconds * 1000 + nanos // 1000000
