# SPDX-License-Identifier: Apache-2.0
# Callers, owners, layers, the order of evaluation and the MFA question. See docs/semantics.md.

cdef enum:
    # Whom an Allow of a resource policy names.
    NAMES_CALLER = 1
    NAMES_PARENT = 2
    NAMES_ACCOUNT = 4
    NAMES_EVERYBODY = 8       # `*`, besides what it is for this caller
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


# The policies that apply to one request.
cdef struct Layers:
    Span service_control
    Span resource_control
    Span resource
    Span identity
    Span boundary
    Span session
    uint32_t resource_set     # IMAGE_NONE: none
    bint has_session
    bint must_grant           # the resource policy must grant by itself
    bint same_account


cdef inline Outcome outcome(uint32_t decision, uint32_t layer, uint32_t reason) noexcept nogil:
    cdef Outcome result
    result.decision = decision
    result.layer = layer
    result.reason = reason
    return result


cdef inline Outcome implicit(uint32_t layer, uint32_t reason) noexcept nogil:
    return outcome(DECISION_IMPLICIT_DENY, layer, reason)


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


# Parties.

cdef bint session_name_valid(Slice name) noexcept nogil:
    # SPEC: STS AssumeRole, RoleSessionName: [\w+=,.@-]{2,64}.
    cdef uint32_t i
    cdef uint8_t c
    if name.len < 2 or name.len > 64:
        return False
    for i in range(name.len):
        c = name.data[i]
        if not (97 <= c | 32 <= 122 or 48 <= c <= 57 or c == 95 or c == 43 or c == 61 or c == 44 or c == 46 or c == 64 or c == 45):
            return False
    return True


cdef bint ends_with(Slice text, const char *end, uint32_t length) noexcept nogil:
    return text.len > length and memcmp(text.data + text.len - length, end, length) == 0


cdef bint caller_is_service(Eval *e, Slice text) noexcept nogil:
    # `name.amazonaws.com`: letters, digits, `-`, `_` and dots.
    cdef uint32_t i
    cdef uint8_t c
    if text.len > MAX_SERVICE_PRINCIPAL:
        return False
    fold_ascii(text.data, text.len, e.service_buffer)
    for i in range(text.len):
        c = e.service_buffer[i]
        if not (97 <= c <= 122 or 48 <= c <= 57 or c == 45 or c == 46 or c == 95):
            return False
    e.service_name = slice_of(e.service_buffer, text.len)
    return ends_with(e.service_name, b".amazonaws.com", 14) or ends_with(e.service_name, b".amazonaws.com.cn", 17)


cdef uint32_t caller_key(Eval *e, const Request *request, const ArnText *arn, Fault *fault) noexcept nogil:
    # Length of the part of the ARN that names a principal of the image, 0 with *fault* set.
    cdef Slice service = arn_field(arn, 2)
    cdef Slice resource = arn_field(arn, 5)
    cdef Slice role
    cdef Slice account = arn_field(arn, 4)
    cdef const uint8_t *slash
    if arn_field(arn, 3).len or not account_valid(&account):
        fault_set(fault, b"principal", b"its ARN names a region, or no account of twelve digits")
        return 0
    if slice_equals(service, b"iam", 3):
        if resource.len > 5 and memcmp(resource.data, b"user/", 5) == 0 and resource.data[resource.len - 1] != 47:
            e.caller = CALLER_USER
            return arn.len
        if slice_equals(resource, b"root", 4):
            e.caller = CALLER_ROOT
            return arn.len
        if resource.len > 5 and memcmp(resource.data, b"role/", 5) == 0:
            fault_set(fault, b"principal", b"a role cannot call: name its session, arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION")
            return 0
    elif slice_equals(service, b"sts", 3):
        if resource.len > 13 and memcmp(resource.data, b"assumed-role/", 13) == 0:
            role = slice_of(resource.data + 13, resource.len - 13)
            slash = <const uint8_t *>memchr(role.data, 47, role.len)
            if slash != NULL and slash != role.data:
                e.session = slice_of(slash + 1, role.len - <uint32_t>(slash - role.data) - 1)
                if session_name_valid(e.session):
                    e.caller = CALLER_ROLE
                    return <uint32_t>(slash - arn.data)
            fault_set(fault, b"principal", b"the session of a role is arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION")
            return 0
        if resource.len > 15 and memcmp(resource.data, b"federated-user/", 15) == 0:
            if request.simulation:
                e.caller = CALLER_FEDERATED_USER
                return arn.len
            fault_set(fault, b"principal", b"a federated user needs a session token")
            return 0
    fault_set(fault, b"principal", b"it is not the ARN of a user, of the session of a role or of an account root")
    return 0


cdef bint caller_read(Eval *e, const Request *request, Fault *fault) noexcept nogil:
    # What kind of caller the principal names, and by which part of its ARN the image knows it.
    cdef Slice text = request.principal
    cdef ArnText arn
    if text.len == 0:
        e.caller = CALLER_ANONYMOUS
        return True
    if not arn_parse(text.data, text.len, &arn):
        if caller_is_service(e, text):
            e.caller = CALLER_SERVICE
            return True
        return fault_set(fault, b"principal", b"it is neither an ARN nor a service principal such as backup.amazonaws.com")
    e.caller_key = caller_key(e, request, &arn, fault)
    return e.caller_key != 0


cdef const ResourcePolicy *resource_policy_find(const Eval *e) noexcept nogil:
    # The most specific entry that covers the resource: the longest literal text; of equal ones that without a wildcard.
    cdef const ImageView *image = e.image
    cdef const ResourcePolicy *found = NULL
    cdef uint32_t length = e.resource.len
    cdef uint32_t number
    cdef uint64_t i
    if image.counts[SECTION_RESOURCE_POLICIES]:
        while True:
            number = table_find(
                image,
                image.resource_policy_table,
                image.resource_policy_mask,
                image.resource_policies,
                sizeof(ResourcePolicy),
                e.resource.data,
                length,
            )
            if number != IMAGE_NONE:
                found = &image.resource_policies[number]
                break
            length -= 1
            while length > e.resource.colons[4] and e.resource.data[length] != 47:
                length -= 1
            if length <= e.resource.colons[4]:
                break
    for i in range(image.counts[SECTION_WILDCARD_LENGTHS]):
        length = image.wildcard_lengths[i]
        if length > e.resource.len:
            continue
        if found != NULL and length <= found.arn_len:
            break
        number = table_find(
            image,
            image.wildcard_policy_table,
            image.wildcard_policy_mask,
            image.wildcard_policies,
            sizeof(ResourcePolicy),
            e.resource.data,
            length,
        )
        if number != IMAGE_NONE:
            return &image.wildcard_policies[number]
    return found


cdef bint resource_is_role(const Eval *e) noexcept nogil:
    cdef Slice resource = arn_field(&e.resource, 5)
    return slice_equals(arn_field(&e.resource, 2), b"iam", 3) and resource.len > 5 and memcmp(resource.data, b"role/", 5) == 0


cdef void resource_layer(Eval *e, Layers *layers, Slice *policy_owner) noexcept nogil:
    # The resource policy that counts for this action, and whose it is.
    cdef const ResourcePolicy *found
    cdef Slice resource
    cdef uint32_t number
    if e.resource_is_any:
        return
    if resource_is_role(e):
        if e.service == e.image.sts_service and e.service != IMAGE_NONE:
            layers.must_grant = True
            number = table_find(
                e.image,
                e.image.role_trust_table,
                e.image.role_trust_mask,
                e.image.role_trusts,
                sizeof(RoleTrust),
                e.resource.data,
                e.resource.len,
            )
            if number != IMAGE_NONE:
                layers.resource_set = e.image.role_trusts[number].set
        return
    if e.service == e.image.kms_service and e.service != IMAGE_NONE:
        resource = arn_field(&e.resource, 5)
        layers.must_grant = (
            slice_equals(arn_field(&e.resource, 2), b"kms", 3) and resource.len > 4 and memcmp(resource.data, b"key/", 4) == 0
        )
    resource = arn_field(&e.resource, 2)
    if e.image.header.resource_services >> (hash_text(resource.data, resource.len) & 63) & 1 == 0:
        return
    found = resource_policy_find(e)
    if found != NULL:
        layers.resource_set = found.set
        policy_owner[0] = image_text(e.image, e.image.accounts[found.account].id, e.image.accounts[found.account].id_len)


cdef bint owner_find(Eval *e, const Request *request, Slice policy_owner, Fault *fault) noexcept nogil:
    # Whose resource it is. False with *fault* set: contradiction; without: nobody says.
    cdef Slice account = slice_of(NULL, 0)
    cdef const Account *only
    if not e.resource_is_any:
        account = arn_field(&e.resource, 4)
        # AWS's own resources, such as its managed policies, count as the caller's.
        if slice_equals(account, b"aws", 3):
            if e.account == NULL:
                return False
            e.owner = image_text(e.image, e.account.id, e.account.id_len)
            e.owner_index = e.account_index
            if request.resource_account.len and not slice_equals(e.owner, request.resource_account.data, request.resource_account.len):
                return fault_set(fault, b"resource_account", b"the resource belongs to another account")
            return True
        if account.len == 0:
            account = policy_owner
        if account.len and request.resource_account.len and not slice_equals(account, request.resource_account.data, request.resource_account.len):
            return fault_set(fault, b"resource_account", b"the resource belongs to another account")
    if account.len == 0:
        account = request.resource_account
    if account.len == 0 and e.resource_is_any and e.account != NULL:
        account = image_text(e.image, e.account.id, e.account.id_len)
    if account.len == 0 and e.image.header.only_account != IMAGE_NONE:
        only = &e.image.accounts[e.image.header.only_account]
        account = image_text(e.image, only.id, only.id_len)
    if account.len == 0:
        return False
    e.owner = account
    if e.account != NULL and slice_equals(account, e.image.strings + e.account.id, e.account.id_len):
        e.owner_index = e.account_index
    else:
        e.owner_index = table_find(
            e.image, e.image.account_table, e.image.account_mask, e.image.accounts, sizeof(Account), account.data, account.len
        )
    return True


cdef inline bint same_partition(const Eval *e) noexcept nogil:
    cdef Slice partition
    if e.account == NULL or e.resource_is_any:
        return True
    partition = arn_field(&e.resource, 1)
    return slice_equals(partition, e.image.strings + e.account.partition, e.account.partition_len)


cdef void layers_find(Eval *e, Layers *layers) noexcept nogil:
    # SPEC: docs/semantics.md, the table of layers.
    cdef bint linked = e.principal != NULL and e.principal.flags & PRINCIPAL_SERVICE_LINKED != 0
    cdef uint32_t resource_control = IMAGE_NONE
    layers.has_session = False
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
    if layers.has_session and span_denies(e, &layers.session):
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
    if layers.has_session and not span_allows(e, &layers.session):
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
        span_ages(e, &layers.session, ages, &count)
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
    answer.needed = False
    answer.methods = 0
    answer.max_age = AGE_UNBOUNDED
    e.mfa.proved = True
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
    e.mfa.proved = False
    e.asking_again = False
    answer.has_max_age = answer.max_age != AGE_UNBOUNDED
    answer.user_verification = answer.needed and not by_touch


cdef void eval_clear(Eval *e, const ImageView *image, const Request *request, int64_t seconds, uint32_t nanos) noexcept nogil:
    e.image = image
    e.request = request
    e.now_seconds = seconds
    e.now_nanos = nanos
    e.caller = CALLER_ANONYMOUS
    e.principal_index = IMAGE_NONE
    e.principal = NULL
    e.account_index = IMAGE_NONE
    e.account = NULL
    e.session = slice_of(NULL, 0)
    e.service_name = slice_of(NULL, 0)
    e.owner = slice_of(NULL, 0)
    e.owner_index = IMAGE_NONE
    e.mfa.proved = False
    e.asking_again = False
    e.mfa_seen = False
    e.age_seen = False
    e.factor_seen = False
    e.fault = False
    e.missing = NULL


cdef bint parties_read(Eval *e, const Request *request, Fault *fault) noexcept nogil:
    # Read caller, action and resource, without looking at the image but to have the slots of its tables on their way
    # from memory; reading the context, which comes next, takes as long as that.
    if not request_check(request, fault):
        return False
    e.caller_key = 0
    if not request.has_session_token and not caller_read(e, request, fault):
        return False
    e.resource_is_any = request.resource.len == 1 and request.resource.data[0] == 42
    if not e.resource_is_any and (
        not arn_parse(request.resource.data, request.resource.len, &e.resource)
        or arn_field(&e.resource, 1).len == 0
        or arn_field(&e.resource, 2).len == 0
        or arn_field(&e.resource, 5).len == 0
    ):
        return fault_set(fault, b"resource", b"it is neither `*` nor an ARN of six fields")
    fold_ascii(request.action.data, request.action.len, e.action_buffer)
    e.action = slice_of(e.action_buffer, request.action.len)
    e.action_hash = hash_text(e.action.data, e.action.len)
    PREFETCH(&e.image.action_table[e.action_hash & e.image.action_mask])
    if e.caller_key:
        e.caller_hash = hash_text(request.principal.data, e.caller_key)
        PREFETCH(&e.image.principal_table[e.caller_hash & e.image.principal_mask])
    return True


cdef void parties_fetch(Eval *e) noexcept nogil:
    # The slots have arrived: have the records on their way.
    cdef uint32_t number = e.image.action_table[e.action_hash & e.image.action_mask]
    if number:
        PREFETCH(&e.image.actions[number - 1])
    if e.caller_key:
        number = e.image.principal_table[e.caller_hash & e.image.principal_mask]
        if number:
            PREFETCH(&e.image.principals[number - 1])


cdef bint caller_find(Eval *e) noexcept nogil:
    # Whether the image knows the caller. Its policies are on their way then.
    cdef const uint32_t *head
    cdef uint32_t number
    cdef uint32_t i
    if e.caller_key == 0:
        return True
    number = table_find_hashed(
        e.image, e.image.principal_table, e.image.principal_mask, e.image.principals, sizeof(Principal),
        e.request.principal.data, e.caller_key, e.caller_hash,
    )
    if number == IMAGE_NONE or e.image.principals[number].kind != e.caller:
        return False
    e.principal_index = number
    e.principal = &e.image.principals[number]
    e.account_index = e.principal.account
    e.account = &e.image.accounts[e.account_index]
    head = e.image.sets + e.principal.identity
    for i in range(8):
        PREFETCH(head + 16 * i)
    return True


cdef void action_find(Eval *e) noexcept nogil:
    cdef const uint8_t *colon
    cdef uint32_t number
    # SAFETY: request_check found exactly one colon inside.
    colon = <const uint8_t *>memchr(e.action.data, 58, e.action.len)
    e.action_name = slice_of(colon + 1, e.action.len - <uint32_t>(colon - e.action.data) - 1)
    number = table_find_hashed(
        e.image, e.image.action_table, e.image.action_mask, e.image.actions, sizeof(Action),
        e.action.data, e.action.len, e.action_hash,
    )
    e.action_number = IMAGE_NONE
    if LIKELY(number != IMAGE_NONE):
        e.service = e.image.actions[number].service
        e.action_number = e.image.actions[number].number
        e.action_wide = e.image.actions[number].wide
    else:
        e.service = service_find(e.image, e.action.data, <uint32_t>(colon - e.action.data))


cdef bint request_read(Eval *e, Request *request, Fault *fault) noexcept nogil:
    # Check a parsed request and bind it to the image of *e*. What follows needs no byte of it checked again.
    cdef uint32_t i
    cdef uint32_t half = (request.entry_count + 1) >> 1
    if not parties_read(e, request, fault):
        return False
    memset(request.slots, 0, sizeof(request.slots))
    for i in range(request.entry_count):
        if i == half:
            parties_fetch(e)
        if not entry_bind(e.image, request, i, fault):
            return False
    return True


cdef Outcome prepare(Eval *e, const Request *request, Layers *layers, Fault *fault) noexcept nogil:
    # Rules 2 to 4: the parties. DECISION_UNSPECIFIED: go on with evaluate, unless *fault* is set.
    cdef Slice policy_owner = slice_of(NULL, 0)
    cdef bint caller_known
    cdef bint owner_known
    layers.resource_set = IMAGE_NONE
    layers.must_grant = False
    if request.has_session_token:
        return implicit(LAYER_UNSPECIFIED, REASON_SESSION_INVALID)
    caller_known = caller_find(e)
    action_find(e)
    resource_layer(e, layers, &policy_owner)
    owner_known = owner_find(e, request, policy_owner, fault)
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
    layers_find(e, layers)
    return outcome(DECISION_UNSPECIFIED, LAYER_UNSPECIFIED, REASON_UNSPECIFIED)


cdef Outcome decide(Eval *e, const Request *request, Layers *layers, MfaAnswer *mfa, Fault *fault) noexcept nogil:
    # One decision. *fault* set: the request is invalid and there is none.
    cdef Outcome result
    mfa.needed = False
    result = prepare(e, request, layers, fault)
    if result.decision != DECISION_UNSPECIFIED or fault.field != NULL:
        return result
    result = evaluate(e, layers)
    if result.decision != DECISION_ALLOW and e.mfa_seen and (e.caller == CALLER_USER or e.caller == CALLER_ROLE):
        mfa_answer(e, layers, mfa)
    if UNLIKELY(e.fault):
        mfa.needed = False
        return implicit(LAYER_UNSPECIFIED, REASON_INTERNAL_ERROR)
    return result
