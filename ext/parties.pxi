# SPDX-License-Identifier: Apache-2.0
# Who calls, what for, on what, and whose that is. See docs/semantics.md, section 1.

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
    Eval *narrow              # whom the session policies of a token are asked with; NULL: they stand in the image itself


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


cdef void eval_clear(Eval *e, const ImageView *image, const Request *request, int64_t seconds, uint32_t nanos) noexcept nogil:
    e.image = image
    e.facts = image
    e.request = request
    e.token = NULL
    e.token_refusal = REASON_UNSPECIFIED
    e.narrow = NULL
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


cdef void token_take(Eval *e, Request *request, Opener *opener, Narrow *narrow, uint64_t monotonic) noexcept nogil:
    # Let a session token say who calls. *monotonic*: nanoseconds of the clock by which keys go out of date.
    cdef const Session *session = token_find(opener, request.session_token)
    request.principal = slice_of(NULL, 0)
    e.token_refusal = REASON_SESSION_INVALID
    if session == NULL:
        return
    e.token = session
    e.narrow = narrow
    e.token_refusal = session_refusal(session, opener.keys, moment_ms(e.now_seconds, e.now_nanos), monotonic)
    # Named in answers and records, whether it counts or not.
    request.principal = session.arn


cdef bint parties_read(Eval *e, const Request *request, Fault *fault) noexcept nogil:
    # Read caller, action and resource, without looking at the image but to have the slots of its tables on their way
    # from memory; reading the context, which comes next, takes as long as that.
    if not request_check(request, fault):
        return False
    e.caller_key = 0
    if not request.has_session_token:
        if not caller_read(e, request, fault):
            return False
    elif e.token_refusal == REASON_UNSPECIFIED:
        e.caller = e.token.caller
        e.session = e.token.name
        e.caller_key = e.token.principal_len
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
        if UNLIKELY(e.token != NULL):
            e.caller_hash = e.token.principal_hash
        else:
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


cdef inline bint caller_find(Eval *e) noexcept nogil:
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


cdef bint person_is_same(const Eval *e) noexcept nogil:
    # Whether the user who signed in is still there, as far as the image knows, and not another one of the same name.
    cdef const Session *session = e.token
    cdef const Principal *person
    cdef uint32_t number
    if session.person.len == 0 or (
        session.caller == CALLER_USER
        and slice_equals(session.person, session.arn.data, session.arn.len)
        and slice_equals(session.person_id, session.principal_id.data, session.principal_id.len)
    ):
        return True
    number = table_find_hashed(
        e.image, e.image.principal_table, e.image.principal_mask, e.image.principals, sizeof(Principal),
        session.person.data, session.person.len, session.person_hash,
    )
    if number != IMAGE_NONE:
        person = &e.image.principals[number]
        return person.kind == CALLER_USER and slice_equals(
            session.person_id, e.image.strings + person.unique_id, person.unique_id_len
        )
    # Of other accounts nobody here knows who is there.
    number = table_find(
        e.image, e.image.account_table, e.image.account_mask, e.image.accounts, sizeof(Account),
        session.person_account.data, session.person_account.len,
    )
    return number == IMAGE_NONE or e.image.accounts[number].flags & ACCOUNT_KNOWN == 0


cdef inline bint caller_is_same(const Eval *e) noexcept nogil:
    # Whether those whom a token names are those whom the image knows, and not others of the same names.
    return slice_equals(
        e.token.principal_id, e.image.strings + e.principal.unique_id, e.principal.unique_id_len
    ) and person_is_same(e)


cdef inline void action_find(Eval *e) noexcept nogil:
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
