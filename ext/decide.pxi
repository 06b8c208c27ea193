# SPDX-License-Identifier: Apache-2.0
# Callers, owners, layers, the order of evaluation and the MFA question. See docs/semantics.md.

cdef enum:
    # Whom an Allow of a resource policy names.
    NAMES_CALLER = 1
    NAMES_PARENT = 2
    NAMES_ACCOUNT = 4
    NAMES_EVERYBODY = 8       # `*`, besides what it is for this caller
    AGE_UNBOUNDED = 0xFFFFFFFF
    MAX_AGES = 64


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


# The policies that apply to one request. IMAGE_NONE: the layer does not apply.
cdef struct Layers:
    uint32_t service_control
    uint32_t resource_control
    uint32_t resource
    uint32_t identity
    uint32_t boundary
    uint32_t session
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

# The rules of one set that are of the request's service.
cdef struct Span:
    const uint32_t *start
    const uint32_t *allows    # those before it deny
    const uint32_t *end


cdef inline void set_span(const Eval *e, const PolicySet *policies, Span *span) noexcept nogil:
    cdef const uint16_t *services = e.image.set_services + policies.services
    cdef uint32_t count = policies.service_count
    cdef uint32_t low = 0
    cdef uint32_t half
    cdef const uint32_t *starts
    span.start = NULL
    span.allows = NULL
    span.end = NULL
    if e.service == IMAGE_NONE or count == 0:
        return
    # Lower bound without a branch that depends on the data.
    while count > 1:
        half = count >> 1
        low = low + half if services[low + half] <= e.service else low
        count -= half
    if services[low] != e.service:
        return
    starts = e.image.set_starts + policies.starts + low
    span.start = e.image.refs + starts[0]
    span.end = e.image.refs + starts[1]
    span.allows = span.start + e.image.set_denies[policies.services + low]


cdef bint set_denies(Eval *e, uint32_t number) noexcept nogil:
    cdef const PolicySet *policies
    cdef const uint32_t *ref
    cdef Span span
    cdef uint32_t i
    if number == IMAGE_NONE:
        return False
    policies = &e.image.sets[number]
    if policies.flags & SET_HAS_DENY == 0:
        return False
    for i in range(policies.any_denies):
        if rule_denies(e, &e.image.rules[e.image.refs[policies.any + i]]):
            return True
    set_span(e, policies, &span)
    ref = span.start
    while ref != span.allows:
        if rule_denies(e, &e.image.rules[ref[0]]):
            return True
        ref += 1
    return False


cdef bint set_allows(Eval *e, uint32_t number) noexcept nogil:
    cdef const PolicySet *policies = &e.image.sets[number]
    cdef const uint32_t *ref
    cdef Span span
    cdef uint32_t i
    if policies.flags & SET_ALLOWS_ALL:
        return True
    set_span(e, policies, &span)
    ref = span.allows
    while ref != span.end:
        if rule_allows(e, &e.image.rules[ref[0]]):
            return True
        ref += 1
    for i in range(policies.any_denies, policies.any_count):
        if rule_allows(e, &e.image.rules[e.image.refs[policies.any + i]]):
            return True
    return False


cdef inline uint32_t rule_grants(Eval *e, const Rule *rule) noexcept nogil:
    cdef uint32_t names = rule_names(e, rule) & (NAMES_CALLER | NAMES_PARENT | NAMES_ACCOUNT)
    if names == 0 or not rule_allows(e, rule):
        return 0
    return names


cdef uint32_t set_grants(Eval *e, uint32_t number) noexcept nogil:
    # NAMES_* of all Allows of a resource policy that apply.
    cdef const PolicySet *policies
    cdef const uint32_t *ref
    cdef Span span
    cdef uint32_t names = 0
    cdef uint32_t i
    if number == IMAGE_NONE:
        return 0
    policies = &e.image.sets[number]
    set_span(e, policies, &span)
    ref = span.allows
    while ref != span.end:
        names |= rule_grants(e, &e.image.rules[ref[0]])
        if names & NAMES_CALLER:
            return names
        ref += 1
    for i in range(policies.any_denies, policies.any_count):
        names |= rule_grants(e, &e.image.rules[e.image.refs[policies.any + i]])
        if names & NAMES_CALLER:
            return names
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
    if text.len > MAX_ACTION:
        return False
    fold_text(text.data, text.len, e.service_buffer)
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
    cdef const uint8_t *slash
    if slice_equals(service, b"iam", 3):
        if resource.len > 5 and memcmp(resource.data, b"user/", 5) == 0:
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


cdef bint caller_find(Eval *e, const Request *request, ArnText *arn, Fault *fault) noexcept nogil:
    # Who calls. False with *fault* set: invalid; without: not in the snapshot.
    cdef Slice text = request.principal
    cdef uint32_t key
    cdef uint32_t number
    if text.len == 0:
        e.caller = CALLER_ANONYMOUS
        return True
    if memchr(text.data, 0, text.len) != NULL:
        return fault_set(fault, b"principal", b"it holds a NUL character")
    if not arn_parse(text.data, text.len, arn):
        if caller_is_service(e, text):
            e.caller = CALLER_SERVICE
            return True
        return fault_set(fault, b"principal", b"it is neither an ARN nor a service principal such as backup.amazonaws.com")
    key = caller_key(e, request, arn, fault)
    if key == 0:
        return False
    number = table_find(
        e.image, e.image.principal_table, e.image.principal_mask, e.image.principals, sizeof(Principal), text.data, key
    )
    if number == IMAGE_NONE or e.image.principals[number].kind != e.caller:
        return False
    e.principal_index = number
    e.principal = &e.image.principals[number]
    e.account_index = e.principal.account
    e.account = &e.image.accounts[e.account_index]
    return True


cdef void action_find(Eval *e, const Request *request) noexcept nogil:
    cdef const uint8_t *colon
    cdef uint32_t number
    fold_text(request.action.data, request.action.len, e.action_buffer)
    e.action = slice_of(e.action_buffer, request.action.len)
    # SAFETY: request_bind found exactly one colon inside.
    colon = <const uint8_t *>memchr(e.action.data, 58, e.action.len)
    e.action_name = slice_of(colon + 1, e.action.len - <uint32_t>(colon - e.action.data) - 1)
    number = table_find(
        e.image, e.image.action_table, e.image.action_mask, e.image.actions, sizeof(Action), e.action.data, e.action.len
    )
    e.action_number = IMAGE_NONE
    if LIKELY(number != IMAGE_NONE):
        e.service = e.image.actions[number].service
        e.action_number = e.image.actions[number].number
    else:
        e.service = service_find(e.image, e.action.data, <uint32_t>(colon - e.action.data))


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
                layers.resource = e.image.role_trusts[number].set
        return
    if e.service == e.image.kms_service and e.service != IMAGE_NONE:
        resource = arn_field(&e.resource, 5)
        layers.must_grant = (
            slice_equals(arn_field(&e.resource, 2), b"kms", 3) and resource.len > 4 and memcmp(resource.data, b"key/", 4) == 0
        )
    found = resource_policy_find(e)
    if found != NULL:
        layers.resource = found.set
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
    cdef const Account *owner
    cdef bint linked = e.principal != NULL and e.principal.flags & PRINCIPAL_SERVICE_LINKED != 0
    layers.service_control = IMAGE_NONE
    layers.resource_control = IMAGE_NONE
    layers.identity = IMAGE_NONE
    layers.boundary = IMAGE_NONE
    layers.session = IMAGE_NONE
    layers.has_session = False
    layers.same_account = e.account != NULL and e.owner_index == e.account_index
    if e.principal != NULL:
        layers.boundary = e.principal.boundary
        if e.caller != CALLER_ROOT:
            layers.identity = e.principal.identity
        if not linked:
            layers.service_control = e.account.service_control
        if e.image.header.flags & IMAGE_SESSION_POLICIES and e.image.counts[SECTION_SESSION_SETS]:
            layers.has_session = e.caller != CALLER_ROOT
            layers.session = e.image.session_sets[0]
        elif e.caller == CALLER_FEDERATED_USER:
            layers.has_session = True
    if e.owner_index != IMAGE_NONE and not linked:
        owner = &e.image.accounts[e.owner_index]
        layers.resource_control = owner.resource_control


# The order of evaluation.

cdef inline bint levels_allow(Eval *e) noexcept nogil:
    # Whether every level of service control policies allows; levels that allow everything are not stored.
    cdef uint32_t i
    if e.account == NULL or e.principal.flags & PRINCIPAL_SERVICE_LINKED:
        return True
    for i in range(e.account.level_count):
        if not set_allows(e, e.image.levels[e.account.levels + i]):
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


cdef Outcome evaluate(Eval *e, const Layers *layers) noexcept nogil:
    # SPEC: docs/semantics.md, section 2, rules 5 to 7.
    cdef uint32_t names
    cdef bint identity = False
    cdef uint32_t allow_reason = REASON_IDENTITY_ALLOW
    if set_denies(e, layers.service_control):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_SERVICE_CONTROL, REASON_EXPLICIT_DENY)
    if set_denies(e, layers.resource_control):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_RESOURCE_CONTROL, REASON_EXPLICIT_DENY)
    if set_denies(e, layers.resource):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_RESOURCE, REASON_EXPLICIT_DENY)
    if set_denies(e, layers.identity):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_IDENTITY, REASON_EXPLICIT_DENY)
    if set_denies(e, layers.boundary):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_PERMISSIONS_BOUNDARY, REASON_EXPLICIT_DENY)
    if layers.has_session and set_denies(e, layers.session):
        return outcome(DECISION_EXPLICIT_DENY, LAYER_SESSION, REASON_EXPLICIT_DENY)
    if not levels_allow(e):
        return implicit(LAYER_SERVICE_CONTROL, REASON_NO_SERVICE_CONTROL_ALLOW)
    names = set_grants(e, layers.resource)
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
    if layers.identity != IMAGE_NONE:
        identity = set_allows(e, layers.identity)
    if not identity and not (layers.same_account and names & NAMES_PARENT):
        return implicit(LAYER_IDENTITY, REASON_NO_IDENTITY_ALLOW)
    if layers.boundary != IMAGE_NONE and not set_allows(e, layers.boundary):
        return implicit(LAYER_PERMISSIONS_BOUNDARY, REASON_NO_PERMISSIONS_BOUNDARY_ALLOW)
    if layers.has_session and (layers.session == IMAGE_NONE or not set_allows(e, layers.session)):
        return implicit(LAYER_SESSION, REASON_NO_SESSION_ALLOW)
    if identity:
        return outcome(DECISION_ALLOW, LAYER_IDENTITY, allow_reason)
    return outcome(DECISION_ALLOW, LAYER_RESOURCE, REASON_RESOURCE_ALLOW)


# MFA.

cdef inline bint allows_with(Eval *e, const Layers *layers, uint32_t age) noexcept nogil:
    e.mfa.age = age
    return evaluate(e, layers).decision == DECISION_ALLOW


cdef void block_ages(const Eval *e, uint32_t number, uint32_t *ages, uint32_t *count) noexcept nogil:
    # Collect the ages that a condition block compares with, rounded down.
    cdef const Block *block
    cdef const Test *test
    cdef int64_t seconds
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
            if 0 <= seconds < AGE_UNBOUNDED and count[0] < MAX_AGES:
                ages[count[0]] = <uint32_t>seconds
                count[0] += 1


cdef void set_ages(Eval *e, uint32_t number, uint32_t *ages, uint32_t *count) noexcept nogil:
    # The ages of all rules of a set whose action and resource match.
    cdef const PolicySet *policies
    cdef const Rule *rule
    cdef const uint32_t *ref
    cdef Span span
    cdef uint32_t i
    if number == IMAGE_NONE:
        return
    policies = &e.image.sets[number]
    set_span(e, policies, &span)
    ref = span.start
    while ref != span.end:
        rule = &e.image.rules[ref[0]]
        if rule.block != IMAGE_NONE and rule_has_action(e, rule) and rule_has_resource(e, rule):
            block_ages(e, rule.block, ages, count)
        ref += 1
    for i in range(policies.any_count):
        rule = &e.image.rules[e.image.refs[policies.any + i]]
        if rule.block != IMAGE_NONE and rule_has_action(e, rule) and rule_has_resource(e, rule):
            block_ages(e, rule.block, ages, count)


cdef uint32_t greatest_age(Eval *e, const Layers *layers) noexcept nogil:
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
    set_ages(e, layers.service_control, ages, &count)
    set_ages(e, layers.resource_control, ages, &count)
    set_ages(e, layers.resource, ages, &count)
    set_ages(e, layers.identity, ages, &count)
    set_ages(e, layers.boundary, ages, &count)
    if layers.has_session:
        set_ages(e, layers.session, ages, &count)
    for i in range(1, count):
        age = ages[i]
        k = i
        while k and ages[k - 1] < age:
            ages[k] = ages[k - 1]
            k -= 1
        ages[k] = age
    for i in range(count):
        if i and ages[i] == ages[i - 1]:
            continue
        for step in range(3):
            # Above the greatest constant lies what was just refused.
            if step == 0 and i == 0:
                continue
            if step == 2 and ages[i] == 0:
                continue
            age = ages[i] + 1 - step
            if allows_with(e, layers, age):
                return age
    return 0


cdef void mfa_answer(Eval *e, const Layers *layers, MfaAnswer *answer) noexcept nogil:
    # SPEC: docs/semantics.md, section 4.
    cdef uint32_t variant
    cdef uint32_t method
    cdef uint32_t age
    cdef bint by_touch = False
    cdef bint every_method = e.image.header.flags & IMAGE_MFA_METHOD == 0
    answer.needed = False
    answer.methods = 0
    answer.max_age = AGE_UNBOUNDED
    e.mfa.proved = True
    for variant in range(5):
        # 0 totp, 1 webauthn, 2 webauthn with verification, 3 u2f, 4 recovery.
        method = MFA_TOTP if variant == 0 else MFA_WEBAUTHN if variant <= 2 else MFA_U2F if variant == 3 else MFA_RECOVERY
        e.mfa.method = method
        e.mfa.user_verified = variant == 2
        e.age_seen = False
        if allows_with(e, layers, 0):
            answer.needed = True
            answer.methods |= 1 << method
            if variant != 2:
                by_touch = True
            # An evaluation that never asked for the age is the same at every age.
            if e.age_seen:
                age = greatest_age(e, layers)
                if age < answer.max_age:
                    answer.max_age = age
        if every_method:
            # No policy tells factors apart, so they all fare alike.
            if answer.needed:
                answer.methods = 0xF
            break
    e.mfa.proved = False
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
    e.mfa_seen = False
    e.age_seen = False
    e.fault = False
    e.missing = NULL


cdef Outcome prepare(Eval *e, const Request *request, Layers *layers, Fault *fault) noexcept nogil:
    # Rules 1 to 4: the parties. DECISION_UNSPECIFIED: go on with evaluate, unless *fault* is set.
    cdef ArnText caller_arn
    cdef Slice policy_owner = slice_of(NULL, 0)
    cdef bint known
    layers.resource = IMAGE_NONE
    layers.must_grant = False
    if request.has_session_token:
        return implicit(LAYER_UNSPECIFIED, REASON_SESSION_INVALID)
    e.resource_is_any = request.resource.len == 1 and request.resource.data[0] == 42
    if not e.resource_is_any and (
        not arn_parse(request.resource.data, request.resource.len, &e.resource)
        or arn_field(&e.resource, 1).len == 0
        or arn_field(&e.resource, 2).len == 0
        or arn_field(&e.resource, 5).len == 0
    ):
        fault_set(fault, b"resource", b"it is neither `*` nor an ARN of six fields")
        return implicit(LAYER_UNSPECIFIED, REASON_INTERNAL_ERROR)
    known = caller_find(e, request, &caller_arn, fault)
    if fault.field != NULL:
        return implicit(LAYER_UNSPECIFIED, REASON_INTERNAL_ERROR)
    if not known:
        return implicit(LAYER_UNSPECIFIED, REASON_UNKNOWN_PRINCIPAL)
    action_find(e, request)
    resource_layer(e, layers, &policy_owner)
    if not owner_find(e, request, policy_owner, fault):
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
