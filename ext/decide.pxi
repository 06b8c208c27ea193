# SPDX-License-Identifier: Apache-2.0
# Layers, the order of evaluation and the MFA question. See docs/semantics.md, sections 2 and 4.

cdef enum:
    AGE_UNBOUNDED = 0xFFFFFFFF
    MAX_AGES = 256


# What was decided. Zero is never an allow.
cdef struct Outcome:
    uint32_t decision
    uint32_t layer
    uint32_t reason


cdef struct MfaAnswer:
    bint needed
    bint has_max_age
    uint32_t max_age
    uint32_t methods          # bit set of MFA_*
    bint user_verification


cdef inline Outcome outcome(uint32_t decision, uint32_t layer, uint32_t reason) noexcept nogil:
    cdef Outcome result
    result.decision = decision
    result.layer = layer
    result.reason = reason
    return result


cdef inline Outcome implicit(uint32_t layer, uint32_t reason) noexcept nogil:
    return outcome(DECISION_IMPLICIT_DENY, layer, reason)


# Session policies of a token.

cdef Eval *narrow_bind(Eval *e) noexcept nogil:
    # The same question, asked of the session policies of the caller's token; its parties stay those of the image.
    cdef Eval *narrow = &e.narrow.eval
    memcpy(narrow, e, sizeof(Eval))
    narrow.image = e.token.policies
    narrow.request = &e.narrow.request
    narrow.narrow = NULL
    request_bind_again(e.request, narrow.image, &e.narrow.request)
    action_find(narrow)
    return narrow


cdef inline Eval *session_ask(Eval *e, const Layers *layers) noexcept nogil:
    # Whom to ask the session policies with. It sees the MFA facts that *e* has by now.
    cdef Eval *narrow = layers.narrow
    if LIKELY(narrow == NULL):
        return e
    narrow.mfa = e.mfa
    narrow.asking_again = e.asking_again
    narrow.mfa_seen = e.mfa_seen
    narrow.age_seen = e.age_seen
    narrow.factor_seen = e.factor_seen
    return narrow


cdef inline void session_asked(Eval *e, const Eval *narrow) noexcept nogil:
    # What was found on the way counts for the whole question.
    e.mfa_seen = narrow.mfa_seen
    e.age_seen = narrow.age_seen
    e.factor_seen = narrow.factor_seen
    e.fault = e.fault or narrow.fault


cdef bint session_denies(Eval *e, Layers *layers) noexcept nogil:
    cdef Eval *narrow = session_ask(e, layers)
    cdef bint denies = span_denies(narrow, &layers.session)
    session_asked(e, narrow)
    return denies


cdef bint session_allows(Eval *e, Layers *layers) noexcept nogil:
    cdef Eval *narrow = session_ask(e, layers)
    cdef bint allows = span_allows(narrow, &layers.session)
    session_asked(e, narrow)
    return allows


cdef void layers_find(Eval *e, Layers *layers) noexcept nogil:
    # SPEC: docs/semantics.md, the table of layers.
    cdef bint linked = e.principal != NULL and e.principal.flags & PRINCIPAL_SERVICE_LINKED != 0
    cdef uint32_t resource_control = IMAGE_NONE
    layers.has_session = False
    layers.narrow = NULL
    layers.same_account = e.account != NULL and e.owner_index == e.account_index
    span_clear(&layers.session)
    if e.principal != NULL:
        span_open(e, IMAGE_NONE if e.caller == CALLER_ROOT else e.principal.identity, &layers.identity)
        span_open(e, e.principal.boundary, &layers.boundary)
        span_open(e, IMAGE_NONE if linked else e.account.service_control, &layers.service_control)
        if e.image.header.flags & IMAGE_SESSION_POLICIES and e.image.counts[SECTION_SESSION_SETS]:
            layers.has_session = e.caller != CALLER_ROOT
            span_open(e, e.image.session_sets[0], &layers.session)
        elif e.caller == CALLER_FEDERATED_USER:
            layers.has_session = True
        elif e.token != NULL and e.token.policies != NULL:
            layers.has_session = True
            layers.narrow = narrow_bind(e)
            span_open(layers.narrow, layers.narrow.image.session_sets[0], &layers.session)
    else:
        span_clear(&layers.identity)
        span_clear(&layers.boundary)
        span_clear(&layers.service_control)
    if e.owner_index != IMAGE_NONE and not linked:
        resource_control = e.image.accounts[e.owner_index].resource_control
    span_open(e, resource_control, &layers.resource_control)
    span_open(e, layers.resource_set, &layers.resource)
    span_fetch(e, &layers.identity)
    span_fetch(e, &layers.boundary)


# The order of evaluation.

cdef inline bint levels_allow(Eval *e) noexcept nogil:
    # Whether every level of service control policies allows; levels that allow everything are not stored.
    cdef Span span
    cdef uint32_t i
    if e.account == NULL or e.principal.flags & PRINCIPAL_SERVICE_LINKED:
        return True
    for i in range(e.account.level_count):
        span_open(e, e.image.levels[e.account.levels + i], &span)
        if not span_allows(e, &span):
            return False
    return True


cdef inline bint is_read_only(Slice name) noexcept nogil:
    return (
        (name.len >= 3 and memcmp(name.data, b"get", 3) == 0)
        or (name.len >= 4 and memcmp(name.data, b"list", 4) == 0)
        or (name.len >= 8 and (memcmp(name.data, b"generate", 8) == 0 or memcmp(name.data, b"simulate", 8) == 0))
        or slice_equals(name, b"passrole", 8)
    )


cdef bint is_immutable(const Eval *e) noexcept nogil:
    # SPEC: docs/semantics.md, rule 4.
    cdef Slice resource
    if e.resource_is_any or not slice_equals(arn_field(&e.resource, 2), b"iam", 3) or is_read_only(e.action_name):
        return False
    resource = arn_field(&e.resource, 5)
    if resource.len > 7 and memcmp(resource.data, b"policy/", 7) == 0:
        return slice_equals(arn_field(&e.resource, 4), b"aws", 3)
    return resource.len > 18 and memcmp(resource.data, b"role/aws-reserved/", 18) == 0


cdef Outcome evaluate(Eval *e, Layers *layers) noexcept nogil:
    # SPEC: docs/semantics.md, section 2, rules 5 to 7.
    cdef uint32_t names
    cdef bint identity = False
    cdef uint32_t allow_reason = REASON_IDENTITY_ALLOW
    if span_denies(e, &layers.service_control):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_SERVICE_CONTROL, REASON_EXPLICIT_DENY)
    if span_denies(e, &layers.resource_control):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_RESOURCE_CONTROL, REASON_EXPLICIT_DENY)
    if span_denies(e, &layers.resource):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_RESOURCE, REASON_EXPLICIT_DENY)
    if span_denies(e, &layers.identity):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_IDENTITY, REASON_EXPLICIT_DENY)
    if span_denies(e, &layers.boundary):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_PERMISSIONS_BOUNDARY, REASON_EXPLICIT_DENY)
    if layers.has_session and session_denies(e, layers):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_SESSION, REASON_EXPLICIT_DENY)
    if not levels_allow(e):
        return implicit(LAYER_SERVICE_CONTROL, REASON_NO_SERVICE_CONTROL_ALLOW)
    names = span_grants(e, &layers.resource)
    if e.caller == CALLER_ANONYMOUS and layers.must_grant:
        names = 0
    if e.principal == NULL:
        if names & NAMES_CALLER:
            return outcome(DECISION_ALLOW, LAYER_RESOURCE, REASON_RESOURCE_ALLOW)
        return implicit(LAYER_RESOURCE, REASON_NO_RESOURCE_ALLOW)
    if e.caller == CALLER_ROOT:
        identity = e.image.header.flags & IMAGE_ROOT_ALLOWED != 0
        allow_reason = REASON_ROOT_ALLOW
    if layers.same_account:
        if names & NAMES_CALLER:
            return outcome(DECISION_ALLOW, LAYER_RESOURCE, REASON_RESOURCE_ALLOW)
        if layers.must_grant and names == 0:
            return implicit(LAYER_RESOURCE, REASON_NO_RESOURCE_ALLOW)
    elif names == 0:
        return implicit(LAYER_RESOURCE, REASON_NO_RESOURCE_ALLOW)
    if layers.identity.applies:
        identity = span_allows(e, &layers.identity)
    if not identity and not (layers.same_account and names & NAMES_PARENT):
        return implicit(LAYER_IDENTITY, REASON_NO_IDENTITY_ALLOW)
    if layers.boundary.applies and not span_allows(e, &layers.boundary):
        return implicit(LAYER_PERMISSIONS_BOUNDARY, REASON_NO_PERMISSIONS_BOUNDARY_ALLOW)
    if layers.has_session and not session_allows(e, layers):
        return implicit(LAYER_SESSION, REASON_NO_SESSION_ALLOW)
    if identity:
        return outcome(DECISION_ALLOW, LAYER_IDENTITY, allow_reason)
    return outcome(DECISION_ALLOW, LAYER_RESOURCE, REASON_RESOURCE_ALLOW)


# MFA.

cdef inline bint allows_with(Eval *e, Layers *layers, uint32_t age) noexcept nogil:
    e.mfa.age = age
    return evaluate(e, layers).decision == DECISION_ALLOW


cdef void block_ages(const Eval *e, uint32_t number, uint32_t *ages, uint32_t *count) noexcept nogil:
    # Collect the ages that a condition block compares with, rounded down, each once. Of more than MAX_AGES the rest are left
    # out: the answer may then be smaller than it could be, never greater, since each that is given was tried.
    cdef const Block *block
    cdef const Test *test
    cdef int64_t seconds
    cdef bint known
    cdef uint32_t place
    cdef uint32_t i
    cdef uint32_t k
    if number == IMAGE_NONE:
        return
    block = &e.image.blocks[number]
    for i in range(block.count):
        test = &e.image.tests[block.tests + i]
        if test.flags & TEST_MFA_AGE == 0 or (test.value_type != VALUE_NUMERIC):
            continue
        for k in range(test.value_count):
            seconds = e.image.instants[test.values + k].seconds
            if seconds < 0 or seconds > AGE_UNBOUNDED or count[0] == MAX_AGES:
                continue
            known = False
            for place in range(count[0]):
                known = known or ages[place] == <uint32_t>seconds
            if not known:
                ages[count[0]] = <uint32_t>seconds
                count[0] += 1


cdef void refs_ages(Eval *e, const uint32_t *ref, const uint32_t *end, uint32_t *ages, uint32_t *count) noexcept nogil:
    cdef const Rule *rule
    while ref != end:
        rule = &e.image.rules[ref[0]]
        if rule.block != IMAGE_NONE and rule_has_action(e, rule) and rule_has_resource(e, rule):
            block_ages(e, rule.block, ages, count)
        ref += 1


cdef void span_ages(Eval *e, const Span *span, uint32_t *ages, uint32_t *count) noexcept nogil:
    # The ages of all rules of a set whose action and resource match.
    refs_ages(e, span.any, span.any_end, ages, count)
    refs_ages(e, span.own, span.own_end, ages, count)


cdef uint32_t greatest_age(Eval *e, Layers *layers) noexcept nogil:
    # The greatest age of the proof in e.mfa that still gives ALLOW; age 0 does. AGE_UNBOUNDED: every age.
    # Between two neighbouring constants nothing changes, so each constant and its neighbours are tried.
    cdef uint32_t ages[MAX_AGES]
    cdef uint32_t count = 0
    cdef uint32_t i
    cdef uint32_t k
    cdef uint32_t age
    cdef uint32_t step
    if allows_with(e, layers, AGE_UNBOUNDED):
        return AGE_UNBOUNDED
    span_ages(e, &layers.service_control, ages, &count)
    span_ages(e, &layers.resource_control, ages, &count)
    span_ages(e, &layers.resource, ages, &count)
    span_ages(e, &layers.identity, ages, &count)
    span_ages(e, &layers.boundary, ages, &count)
    if layers.has_session:
        span_ages(session_ask(e, layers), &layers.session, ages, &count)
    for i in range(1, count):
        age = ages[i]
        k = i
        while k and ages[k - 1] < age:
            ages[k] = ages[k - 1]
            k -= 1
        ages[k] = age
    for i in range(count):
        for step in range(3):
            # Above the greatest constant lies what was just refused.
            if step == 0 and (i == 0 or ages[i] == AGE_UNBOUNDED):
                continue
            if step == 2 and ages[i] == 0:
                continue
            age = ages[i] + 1 - step
            if allows_with(e, layers, age):
                return age
    return 0


cdef void mfa_answer(Eval *e, Layers *layers, MfaAnswer *answer) noexcept nogil:
    # SPEC: docs/semantics.md, section 4.
    cdef uint32_t variant
    cdef uint32_t method
    cdef uint32_t age
    cdef bint by_touch = False
    cdef MfaFacts facts = e.mfa
    answer.needed = False
    answer.methods = 0
    answer.max_age = AGE_UNBOUNDED
    e.mfa.proved = True
    # Which device it would be nobody knows.
    e.mfa.serial = slice_of(NULL, 0)
    e.asking_again = True
    for variant in range(5):
        # 0 totp, 1 webauthn, 2 webauthn with verification, 3 u2f, 4 recovery.
        method = MFA_TOTP if variant == 0 else MFA_WEBAUTHN if variant <= 2 else MFA_U2F if variant == 3 else MFA_RECOVERY
        e.mfa.method = method
        e.mfa.user_verified = variant == 2
        e.age_seen = False
        e.factor_seen = False
        if allows_with(e, layers, 0):
            answer.needed = True
            answer.methods |= 1 << method
            if variant != 2:
                by_touch = True
            # An evaluation that never asked for the age is the same at every age, and likewise below for the factor.
            if e.age_seen:
                age = greatest_age(e, layers)
                if age < answer.max_age:
                    answer.max_age = age
        if variant == 0 and not e.factor_seen:
            if answer.needed:
                answer.methods = 0xF
            break
    e.mfa = facts
    e.asking_again = False
    answer.has_max_age = answer.max_age != AGE_UNBOUNDED
    answer.user_verification = answer.needed and not by_touch


# What a token adds.

cdef void proof_facts(Eval *e, const Proof *proof, int64_t now) noexcept nogil:
    # INVARIANT: no proof is further ahead than CLOCK_SKEW_MS, or the token would not count.
    cdef int64_t age = (now - proof.proved_at) // 1000 if now > proof.proved_at else 0
    e.mfa.proved = True
    e.mfa.age = <uint32_t>min(age, <int64_t>AGE_UNBOUNDED - 1)
    e.mfa.method = proof.method
    e.mfa.user_verified = proof.user_verified
    e.mfa.serial = proof.serial


cdef void token_facts(Eval *e) noexcept nogil:
    # SPEC: docs/semantics.md, section 5: a proof for exactly this call first, then one for all calls.
    cdef const Session *session = e.token
    cdef int64_t now = moment_ms(e.now_seconds, e.now_nanos)
    if (
        session.bound.holds
        and now < session.bound.proved_at + BOUND_PROOF_MS
        and slice_equals(session.bound_action, e.action.data, e.action.len)
        and slice_equals(session.bound_resource, e.request.resource.data, e.request.resource.len)
    ):
        proof_facts(e, &session.bound, now)
    elif session.mfa.holds:
        proof_facts(e, &session.mfa, now)


cdef bint override_says_mfa(const Eval *e) noexcept nogil:
    # Whether an override claims that MFA was proved. No policy need ask for that key.
    cdef const ContextEntry *entry
    cdef uint32_t i
    for i in range(e.request.entry_count):
        entry = &e.request.entries[i]
        if (
            entry.overriding
            and entry.name.len == 26
            and equals_folded(entry.name.data, <const uint8_t *>b"aws:multifactorauthpresent", 26)
        ):
            return entry.count == 1 and read_bool(e.request.values[entry.first].data, e.request.values[entry.first].len) == 1
    return e.mfa.proved


cdef bint kind_forbids(Eval *e) noexcept nogil:
    # SPEC: docs/semantics.md, section 5: what AWS does not let a session of this kind call.
    cdef bint is_sts = e.action.len > 4 and memcmp(e.action.data, b"sts:", 4) == 0
    if e.token.kind == SESSION_ROLE:
        return is_sts and (
            slice_equals(e.action_name, b"getsessiontoken", 15) or slice_equals(e.action_name, b"getfederationtoken", 18)
        )
    if e.token.kind != SESSION_USER:
        return False
    if is_sts:
        return not (
            slice_equals(e.action_name, b"assumerole", 10)
            # What AssumeRole is asked for beside itself.
            or slice_equals(e.action_name, b"tagsession", 10)
            or slice_equals(e.action_name, b"setsourceidentity", 17)
        )
    # iam:PassRole is no call, but asked for by calls of other services.
    if (
        e.action.len > 4
        and memcmp(e.action.data, b"iam:", 4) == 0
        and not slice_equals(e.action_name, b"passrole", 8)
        and not override_says_mfa(e)
    ):
        # A proof would change that, if policies allow it.
        e.mfa_seen = True
        return True
    return False


cdef Outcome prepare(Eval *e, const Request *request, Layers *layers, Fault *fault) noexcept nogil:
    # Rules 2 to 4: the parties. DECISION_UNSPECIFIED: go on with evaluate, unless *fault* is set.
    cdef Slice policy_owner = slice_of(NULL, 0)
    cdef bint caller_known
    cdef bint owner_known
    layers.resource_set = IMAGE_NONE
    layers.must_grant = False
    if UNLIKELY(e.token_refusal != REASON_UNSPECIFIED):
        return implicit(LAYER_UNSPECIFIED, e.token_refusal)
    caller_known = caller_find(e)
    action_find(e)
    resource_layer(e, layers, &policy_owner)
    owner_known = owner_find(e, request, policy_owner, fault)
    if UNLIKELY(e.token != NULL) and (not caller_known or not caller_is_same(e)):
        return implicit(LAYER_UNSPECIFIED, REASON_SESSION_INVALID)
    if not caller_known:
        return implicit(LAYER_UNSPECIFIED, REASON_UNKNOWN_PRINCIPAL)
    if not owner_known:
        return implicit(LAYER_UNSPECIFIED, REASON_RESOURCE_ACCOUNT_UNKNOWN)
    if not same_partition(e):
        return implicit(LAYER_UNSPECIFIED, REASON_CROSS_PARTITION)
    if e.service == e.image.sts_service and e.caller != CALLER_ANONYMOUS and slice_equals(e.action, b"sts:getcalleridentity", 21):
        return outcome(DECISION_ALLOW, LAYER_UNSPECIFIED, REASON_ALWAYS_ALLOWED)
    if e.service == e.image.iam_service and slice_equals(slice_of(e.action.data, 4), b"iam:", 4) and is_immutable(e):
        return implicit(LAYER_UNSPECIFIED, REASON_IMMUTABLE_RESOURCE)
    if UNLIKELY(e.token != NULL):
        token_facts(e)
    layers_find(e, layers)
    return outcome(DECISION_UNSPECIFIED, LAYER_UNSPECIFIED, REASON_UNSPECIFIED)


cdef inline bint may_prove(const Eval *e) noexcept nogil:
    # Whether there is somebody who could prove a factor.
    return (e.caller == CALLER_USER or e.caller == CALLER_ROLE) and (e.token == NULL or e.token.person.len != 0)


cdef Outcome decide(Eval *e, const Request *request, Layers *layers, MfaAnswer *mfa, Fault *fault) noexcept nogil:
    # One decision. *fault* set: the request is invalid and there is none.
    cdef Outcome result
    mfa.needed = False
    result = prepare(e, request, layers, fault)
    if result.decision != DECISION_UNSPECIFIED or fault.field != NULL:
        return result
    if UNLIKELY(e.token != NULL) and kind_forbids(e):
        result = implicit(LAYER_UNSPECIFIED, REASON_SESSION_KIND_NOT_ALLOWED)
    else:
        result = evaluate(e, layers)
    if result.decision != DECISION_ALLOW and e.mfa_seen and may_prove(e):
        mfa_answer(e, layers, mfa)
    if UNLIKELY(e.fault):
        mfa.needed = False
        return implicit(LAYER_UNSPECIFIED, REASON_INTERNAL_ERROR)
    return result
