# SPDX-License-Identifier: Apache-2.0
# What a decision would be if what stands in shadow were in force, and what that means once it should be.

# One question, asked of the image that holds what stands in shadow. Confined to one thread; nothing in it is owned.
cdef struct ShadowRoom:
    Eval eval
    Request request
    Layers layers
    MfaAnswer mfa
    Outcome outcome           # filled anew by each decision under an image with a shadow


cdef void request_repeat(const Request *source, const ImageView *image, Request *request) noexcept nogil:
    # The whole of a request that was checked, bound to another image.
    request.principal = source.principal
    request.action = source.action
    request.resource = source.resource
    request.resource_account = source.resource_account
    request.has_session_token = source.has_session_token
    request.session_token = source.session_token
    request.token_fields = source.token_fields
    request.simulation = source.simulation
    request_bind_again(source, image, request)


cdef bint shadow_is_over(const ImageView *image, int64_t seconds) noexcept nogil:
    # Whether something that stands in shadow in *image* should be in force by now.
    return seconds >= image.shadow_entries[0].until


cdef void mfa_join(const MfaAnswer *other, MfaAnswer *mfa) noexcept nogil:
    # What proof does for both.
    mfa.methods &= other.methods
    mfa.needed = mfa.needed and other.needed and mfa.methods != 0
    if other.has_max_age and not (mfa.has_max_age and mfa.max_age < other.max_age):
        mfa.has_max_age = True
        mfa.max_age = other.max_age
    mfa.user_verification = mfa.user_verification or other.user_verification


cdef void shadow_settle(
    const ImageView *image, int64_t seconds, Outcome shadow, const MfaAnswer *shadow_mfa, Outcome *result, MfaAnswer *mfa
) noexcept nogil:
    # INVARIANT: nothing is enforced of what stands in shadow before its time, and nothing that it grants is granted after.
    # Between the end of an entry and the next image both must allow.
    if not shadow_is_over(image, seconds) or shadow.decision == DECISION_ALLOW:
        return
    if result.decision == DECISION_ALLOW:
        result[0] = shadow
        mfa[0] = shadow_mfa[0]
    elif mfa.needed:
        mfa_join(shadow_mfa, mfa)


cdef uint32_t shadow_decide(
    const Eval *e, const Request *request, ShadowRoom *room, Outcome *result, MfaAnswer *mfa
) noexcept nogil:
    # What the question that *result* answers comes to under e.image.shadow, which is there: DECISION_*. Where that should be
    # in force by now, the stricter of the two is put into *result* and *mfa*.
    cdef Fault fault
    fault_clear(&fault)
    request_repeat(request, e.image.shadow, &room.request)
    eval_clear(&room.eval, e.image.shadow, &room.request, e.now_seconds, e.now_nanos)
    room.eval.token = e.token
    room.eval.token_refusal = e.token_refusal
    room.eval.narrow = e.narrow
    room.mfa.needed = False
    # It was read before, so it can be read again. But a policy in shadow may name another owner than the request does.
    if parties_read(&room.eval, &room.request, &fault):
        room.outcome = decide(&room.eval, &room.request, &room.layers, &room.mfa, &fault)
    if fault.field != NULL or room.outcome.decision == DECISION_UNSPECIFIED:
        room.outcome = implicit(LAYER_UNSPECIFIED, REASON_RESOURCE_ACCOUNT_UNKNOWN)
        room.mfa.needed = False
    shadow_settle(e.image, e.now_seconds, room.outcome, &room.mfa, result, mfa)
    return room.outcome.decision
