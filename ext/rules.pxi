# SPDX-License-Identifier: Apache-2.0
# Rules and sets of them: does one apply, does a set deny or allow? See docs/semantics.md, sections 2 and 3.

cdef enum:
    # Whom an Allow of a resource policy names.
    NAMES_CALLER = 1
    NAMES_PARENT = 2
    NAMES_ACCOUNT = 4
    NAMES_EVERYBODY = 8       # `*`, besides what it is for this caller


# The rules of one policy set that a request has to look at: those for every service and those for
# its own. Empty where the layer does not apply.
cdef struct Span:
    const uint32_t *any
    const uint32_t *any_allows    # those before it deny
    const uint32_t *any_end
    const uint32_t *own
    const uint32_t *own_allows    # those before it deny
    const uint32_t *own_end
    bint applies
    bint allows_all
    bint steady                   # its denials asked for no MFA fact: proving one changes nothing


# Does a rule apply?

cdef inline bint action_in_set(const Eval *e, const ActionSet *actions) noexcept nogil:
    cdef uint32_t number = e.action_number
    cdef uint32_t i
    if LIKELY(number != IMAGE_NONE):
        return number >> 6 < actions.word_count and e.image.action_words[actions.words + (number >> 6)] >> (number & 63) & 1
    for i in range(actions.glob_count):
        if pattern_match_text(e.image, &e.image.patterns[actions.globs + i], e.action_name.data, e.action_name.len):
            return True
    return False


cdef bint action_in_wide(const Eval *e, const WideSet *wide) noexcept nogil:
    cdef bint negated = wide.flags & WIDE_NEGATED != 0
    cdef const WideService *service
    cdef uint32_t low = 0
    cdef uint32_t high = wide.service_count
    cdef uint32_t middle
    cdef uint32_t i
    if wide.flags & WIDE_ALL:
        return not negated
    while low < high:
        middle = (low + high) >> 1
        service = &e.image.wide_services[wide.services + middle]
        if service.service == e.service:
            if service.actions == IMAGE_NONE or action_in_set(e, &e.image.action_sets[service.actions]):
                return not negated
            break
        if service.service < e.service:
            low = middle + 1
        else:
            high = middle
    for i in range(wide.glob_count):
        if pattern_match_text(e.image, &e.image.patterns[wide.globs + i], e.action.data, e.action.len):
            return not negated
    return negated


cdef inline bint rule_has_action(const Eval *e, const Rule *rule) noexcept nogil:
    if rule.flags & RULE_ACTION_SET:
        return action_in_set(e, &e.image.action_sets[rule.actions])
    if rule.flags & RULE_ACTION_ONE:
        return rule.actions == e.action_number
    if rule.flags & RULE_ACTION_ALL:
        return True
    if LIKELY(rule.actions < WIDE_BITS and e.action_number != IMAGE_NONE):
        return e.action_wide >> rule.actions & 1
    return action_in_wide(e, &e.image.wide_sets[rule.actions])


cdef bint resource_template_matches(Eval *e, const Pattern *pattern) noexcept nogil:
    cdef uint8_t expanded[EXPAND_CAPACITY]
    cdef uint32_t length = template_expand(e, pattern, True, expanded)
    return length != EXPAND_FAILED and arn_glob(expanded, length, &e.resource)


cdef inline bint resource_matches(Eval *e, const Pattern *pattern) noexcept nogil:
    if LIKELY(pattern.kind != PATTERN_TEMPLATE):
        return pattern_match_arn(e.image, pattern, &e.resource)
    return resource_template_matches(e, pattern)


cdef inline bint rule_has_resource(Eval *e, const Rule *rule) noexcept nogil:
    cdef bint negated = rule.flags & RULE_NOT_RESOURCE != 0
    cdef const ResourceSet *resources
    cdef uint32_t i
    if rule.flags & RULE_RESOURCE_ANY:
        return not negated
    # SPEC: only the entry `*` matches the resource `*`.
    if e.resource_is_any:
        return negated
    if rule.flags & RULE_RESOURCE_ONE:
        return resource_matches(e, &e.image.patterns[rule.resources]) != negated
    resources = &e.image.resource_sets[rule.resources]
    for i in range(resources.count):
        if resource_matches(e, &e.image.patterns[resources.patterns + i]):
            return not negated
    return negated


cdef uint32_t entry_names(const Eval *e, const PrincipalEntry *entry) noexcept nogil:
    # NAMES_* of one entry of Principal, or 0.
    if entry.kind == ENTRY_ANY:
        return NAMES_EVERYBODY if e.caller == CALLER_SERVICE else NAMES_EVERYBODY | NAMES_CALLER
    if entry.kind == ENTRY_SERVICE:
        if e.caller == CALLER_SERVICE and slice_equals(e.service_name, e.image.strings + entry.text, entry.len):
            return NAMES_CALLER
        return 0
    if e.principal == NULL:
        return 0
    if entry.kind == ENTRY_ACCOUNT:
        if entry.ref != e.account_index:
            return 0
        return NAMES_CALLER if e.caller == CALLER_ROOT else NAMES_ACCOUNT
    if entry.kind == ENTRY_PRINCIPAL:
        if entry.ref == e.principal_index:
            return NAMES_PARENT if e.caller == CALLER_ROLE else NAMES_CALLER
        return NAMES_PARENT if entry.ref == e.principal.parent else 0
    if entry.kind == ENTRY_SESSION and entry.ref == e.principal_index and e.caller == CALLER_ROLE:
        return NAMES_CALLER if slice_equals(e.session, e.image.strings + entry.text, entry.len) else 0
    return 0


cdef uint32_t rule_names(const Eval *e, const Rule *rule) noexcept nogil:
    # NAMES_* of all entries together. A rule without principals names everybody.
    cdef uint32_t names = 0
    cdef uint32_t i
    if rule.flags & RULE_PRINCIPAL == 0:
        return NAMES_EVERYBODY | NAMES_CALLER
    for i in range(rule.principal_count):
        names |= entry_names(e, &e.image.principal_entries[rule.principals + i])
    return names


cdef bint rule_exempts(const Eval *e, const Rule *rule) noexcept nogil:
    # SPEC: docs/semantics.md, NotPrincipal: the caller and each of its ancestors must be listed.
    cdef uint32_t names = 0
    cdef uint32_t needed = NAMES_CALLER
    cdef uint32_t i
    if e.principal != NULL and e.principal.boundary != IMAGE_NONE:
        return False
    for i in range(rule.principal_count):
        names |= entry_names(e, &e.image.principal_entries[rule.principals + i])
    if names & NAMES_EVERYBODY:
        return True
    if e.caller == CALLER_USER:
        needed |= NAMES_ACCOUNT
    elif e.caller == CALLER_ROLE or e.caller == CALLER_FEDERATED_USER:
        needed |= NAMES_PARENT | NAMES_ACCOUNT
    return names & needed == needed


cdef inline bint rule_denies(Eval *e, const Rule *rule) noexcept nogil:
    if not rule_has_action(e, rule):
        return False
    if rule.flags & RULE_PRINCIPAL and rule_names(e, rule) == 0:
        return False
    if rule.flags & RULE_NOT_PRINCIPAL and rule_exempts(e, rule):
        return False
    return rule_has_resource(e, rule) and block_holds(e, rule.block, True)


cdef inline bint rule_allows(Eval *e, const Rule *rule) noexcept nogil:
    return rule_has_action(e, rule) and rule_has_resource(e, rule) and block_holds(e, rule.block, False)


# Sets of policies.

cdef inline void span_clear(Span *span) noexcept nogil:
    memset(span, 0, sizeof(Span))


cdef void span_open(const Eval *e, uint32_t set_word, Span *span) noexcept nogil:
    # Find the rules of the set that begins at *set_word*, IMAGE_NONE: of none, and have them on their way from memory.
    cdef const uint32_t *head
    cdef const PolicySet *policies
    cdef const uint16_t *services
    cdef const uint32_t *entries
    cdef const uint32_t *ref
    cdef uint32_t low = 0
    cdef uint32_t half
    cdef uint32_t count
    span_clear(span)
    if set_word == IMAGE_NONE:
        return
    head = e.image.sets + set_word
    policies = <const PolicySet *>head
    span.applies = True
    span.allows_all = policies.flags & SET_ALLOWS_ALL != 0
    span.any = head + policies.any
    span.any_allows = span.any + policies.any_denies
    span.any_end = span.any + policies.any_count
    count = policies.service_count
    if e.service == IMAGE_NONE or count == 0:
        return
    services = <const uint16_t *>(head + 8)
    # Lower bound without a branch that depends on the data.
    while count > 1:
        half = count >> 1
        low = low + half if services[low + half] <= e.service else low
        count -= half
    if services[low] != e.service:
        return
    entries = head + policies.entries + low
    span.own = span.any_end + (entries[0] & 0xFFFF)
    span.own_allows = span.own + (entries[0] >> 16)
    span.own_end = span.any_end + (entries[1] & 0xFFFF)
    ref = span.own
    while ref != span.own_end and ref - span.own < 8:
        PREFETCH(&e.image.rules[ref[0]])
        ref += 1


cdef void span_fetch(const Eval *e, const Span *span) noexcept nogil:
    # The rules have arrived: have their patterns and conditions on their way.
    cdef const uint32_t *ref = span.own
    cdef const Rule *rule
    while ref != span.own_end and ref - span.own < 6:
        rule = &e.image.rules[ref[0]]
        if rule.block != IMAGE_NONE:
            PREFETCH(&e.image.blocks[rule.block])
        if rule.flags & RULE_RESOURCE_ONE:
            PREFETCH(&e.image.patterns[rule.resources])
        if rule.flags & RULE_ACTION_SET:
            PREFETCH(&e.image.action_sets[rule.actions])
        ref += 1


cdef bint refs_deny(Eval *e, const uint32_t *ref, const uint32_t *end) noexcept nogil:
    while ref != end:
        if rule_denies(e, &e.image.rules[ref[0]]):
            return True
        ref += 1
    return False


cdef bint span_denies(Eval *e, Span *span) noexcept nogil:
    # Whether a rule of the set denies. Asked again with MFA proved, a set that did not look at MFA is not asked at all.
    cdef bint seen = e.mfa_seen
    cdef bint denies
    if span.any == span.any_allows and span.own == span.own_allows:
        return False
    if e.asking_again:
        return not span.steady and (refs_deny(e, span.any, span.any_allows) or refs_deny(e, span.own, span.own_allows))
    e.mfa_seen = False
    denies = refs_deny(e, span.any, span.any_allows) or refs_deny(e, span.own, span.own_allows)
    span.steady = not e.mfa_seen and not denies
    e.mfa_seen = e.mfa_seen or seen
    return denies


cdef bint span_allows(Eval *e, const Span *span) noexcept nogil:
    cdef const uint32_t *ref = span.own_allows
    if span.allows_all:
        return True
    while ref != span.own_end:
        if rule_allows(e, &e.image.rules[ref[0]]):
            return True
        ref += 1
    ref = span.any_allows
    while ref != span.any_end:
        if rule_allows(e, &e.image.rules[ref[0]]):
            return True
        ref += 1
    return False


cdef inline uint32_t rule_grants(Eval *e, const Rule *rule) noexcept nogil:
    cdef uint32_t names = rule_names(e, rule) & (NAMES_CALLER | NAMES_PARENT | NAMES_ACCOUNT)
    if names == 0 or not rule_allows(e, rule):
        return 0
    return names


cdef uint32_t span_grants(Eval *e, const Span *span) noexcept nogil:
    # NAMES_* of all Allows of a resource policy that apply.
    cdef const uint32_t *ref = span.own_allows
    cdef uint32_t names = 0
    while ref != span.own_end:
        names |= rule_grants(e, &e.image.rules[ref[0]])
        if names & NAMES_CALLER:
            return names
        ref += 1
    ref = span.any_allows
    while ref != span.any_end:
        names |= rule_grants(e, &e.image.rules[ref[0]])
        if names & NAMES_CALLER:
            return names
        ref += 1
    return names
