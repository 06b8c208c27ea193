# SPDX-License-Identifier: Apache-2.0
# Context keys, policy variables and condition blocks. See docs/semantics.md, section 3.

cdef enum:
    EXPAND_CAPACITY = 16384
    VALUE_IS_NULL = 0
    VALUE_IS_ONE = 1
    VALUE_IS_LIST = 2


# MFA facts of a caller: those of its session, or as if it had just proved a factor.
cdef struct MfaFacts:
    bint proved
    uint32_t age
    uint32_t method       # MFA_*
    bint user_verified
    Slice serial          # of the device; empty: there is none, or none is known


cdef struct Narrow

# Everything one decision looks at. Confined to one call.
cdef struct Eval:
    const ImageView *image         # whose rules are asked
    const ImageView *facts         # which knows the parties: the same, but for the session policies of a token
    const Request *request
    int64_t now_seconds
    uint32_t now_nanos
    # Who calls.
    const Session *token           # what the caller's token says; NULL: the caller is named
    uint32_t token_refusal         # REASON_*: why there is a token that does not count
    Narrow *narrow                 # room for the session policies of a token
    uint32_t caller                # CALLER_*
    uint32_t principal_index       # IMAGE_NONE for services and anonymous callers
    const Principal *principal     # NULL likewise
    uint32_t account_index
    const Account *account         # NULL likewise
    uint32_t caller_key            # length of the text that the image knows it by; 0: none
    uint32_t caller_hash
    uint32_t action_hash
    Slice session                  # name of a role session
    Slice service_name             # folded
    uint8_t service_buffer[MAX_SERVICE_PRINCIPAL + 8]
    # What is done.
    Slice action                   # folded
    Slice action_name              # behind its colon
    uint8_t action_buffer[MAX_ACTION + 8]
    uint32_t service               # IMAGE_NONE: no policy names it
    uint32_t action_number         # IMAGE_NONE: no policy spells it out
    uint64_t action_wide           # wide action sets that hold it, where it is known
    # To what.
    bint resource_is_any           # the resource `*`
    ArnText resource
    Slice owner                    # account id, empty: unknown
    uint32_t owner_index           # IMAGE_NONE: not in the image
    # What the evaluation found on its way.
    MfaFacts mfa
    bint asking_again              # as if MFA had just been proved
    bint mfa_seen                  # a condition asked for an MFA fact
    bint age_seen                  # a condition asked for the age of the proof
    bint factor_seen               # a condition asked which factor was proved
    bint fault                     # a bound was passed: deny
    uint8_t *missing               # one byte a key of the image, or NULL
    # Texts made on demand.
    uint8_t time_text[24]
    uint8_t epoch_text[24]
    uint8_t age_text[16]
    uint8_t user_id_text[512]


# Session policies of a token are an image of their own: the same request and parties once more, bound to that.
cdef struct Narrow:
    Eval eval
    Request request


# The value of one condition key.
cdef struct Value:
    uint32_t state        # VALUE_IS_*
    uint32_t moment_key   # KEY_*: the moment is the value, its text is made when asked for; 0: a text
    uint32_t count
    const Slice *many     # of a list
    Slice one
    Moment moment


cdef inline void value_text(Value *value, Slice text) noexcept nogil:
    if text.len:
        value.state = VALUE_IS_ONE
        value.one = text


cdef inline void value_single_list(Value *value, Slice text) noexcept nogil:
    # A list of one.
    if text.len:
        value.state = VALUE_IS_LIST
        value.one = text
        value.count = 1
        value.many = &value.one


cdef inline void value_moment(Value *value, uint32_t key, int64_t seconds) noexcept nogil:
    value.state = VALUE_IS_ONE
    value.moment_key = key
    value.moment.seconds = seconds
    value.moment.nanos = 0


cdef inline void moment_text(Eval *e, Value *value) noexcept nogil:
    # Make the text of a moment, where somebody wants it.
    if value.moment_key == KEY_CURRENT_TIME:
        value.one = slice_of(e.time_text, write_date(value.moment.seconds, e.time_text))
    elif value.moment_key == KEY_EPOCH_TIME:
        value.one = slice_of(e.epoch_text, write_number(<uint64_t>value.moment.seconds, e.epoch_text))
    elif value.moment_key == KEY_MFA_AGE:
        value.one = slice_of(e.age_text, write_number(<uint64_t>value.moment.seconds, e.age_text))


cdef inline bint moment_is_read(const Value *value, uint32_t value_type) noexcept nogil:
    # Whether the operator reads this moment as it stands; else it reads the text.
    if value_type == VALUE_DATE:
        return value.moment_key == KEY_CURRENT_TIME or value.moment_key == KEY_EPOCH_TIME
    return value_type == VALUE_NUMERIC and (value.moment_key == KEY_EPOCH_TIME or value.moment_key == KEY_MFA_AGE)


cdef inline Slice image_text(const ImageView *image, uint32_t offset, uint32_t length) noexcept nogil:
    return slice_of(image.strings + offset, length)


cdef Slice principal_type(const Eval *e) noexcept nogil:
    if e.caller == CALLER_USER:
        return slice_literal(b"User", 4)
    if e.caller == CALLER_ROLE:
        return slice_literal(b"AssumedRole", 11)
    if e.caller == CALLER_ROOT:
        return slice_literal(b"Account", 7)
    if e.caller == CALLER_FEDERATED_USER:
        return slice_literal(b"FederatedUser", 13)
    if e.caller == CALLER_SERVICE:
        return slice_literal(b"AWSService", 10)
    return slice_literal(b"Anonymous", 9)


cdef Slice user_id(Eval *e) noexcept nogil:
    cdef uint32_t length
    if e.principal == NULL:
        return slice_literal(b"anonymous", 9) if e.caller == CALLER_ANONYMOUS else slice_of(NULL, 0)
    length = e.principal.unique_id_len
    if e.caller != CALLER_ROLE or length == 0:
        return image_text(e.facts, e.principal.unique_id, length)
    # SAFETY: 256 bytes of id at most (checked at load), 64 of session name (checked in parties).
    memcpy(e.user_id_text, e.facts.strings + e.principal.unique_id, length)
    e.user_id_text[length] = 58
    memcpy(e.user_id_text + length + 1, e.session.data, e.session.len)
    return slice_of(e.user_id_text, length + 1 + e.session.len)


cdef inline void account_organization(const Eval *e, const Account *account, bint path, Value *value) noexcept nogil:
    if account == NULL or account.flags & ACCOUNT_IN_ORGANIZATION == 0:
        return
    if path:
        value_single_list(value, image_text(e.facts, account.path, account.path_len))
    else:
        value_text(value, image_text(e.facts, e.facts.header.organization, e.facts.header.organization_len))


cdef void builtin_value(Eval *e, uint32_t builtin, Value *value) noexcept nogil:
    # SPEC: docs/semantics.md, "Context keys that the sidecar sets".
    cdef const Account *owner
    if builtin == KEY_CURRENT_TIME or builtin == KEY_EPOCH_TIME:
        value_moment(value, builtin, e.now_seconds)
    elif builtin == KEY_TOKEN_ISSUE_TIME:
        if e.token != NULL:
            value_moment(value, KEY_CURRENT_TIME, e.token.issued_at // 1000)
        elif e.mfa.proved and e.caller == CALLER_USER:
            value_moment(value, KEY_CURRENT_TIME, e.now_seconds)
    elif builtin == KEY_MFA_PRESENT:
        if e.mfa.proved:
            value_text(value, slice_literal(b"true", 4))
        elif e.token != NULL or e.caller == CALLER_ROLE or e.caller == CALLER_FEDERATED_USER:
            value_text(value, slice_literal(b"false", 5))
    elif builtin == KEY_MFA_AGE:
        if e.mfa.proved:
            value_moment(value, KEY_MFA_AGE, e.mfa.age)
    elif builtin == KEY_MFA_METHOD:
        if e.mfa.proved:
            value_text(value, slice_literal(MFA_WORDS[e.mfa.method], <uint32_t>strlen(MFA_WORDS[e.mfa.method])))
    elif builtin == KEY_MFA_USER_VERIFIED:
        if e.mfa.proved:
            value_text(value, slice_literal(b"true", 4) if e.mfa.user_verified else slice_literal(b"false", 5))
    elif builtin == KEY_MFA_DEVICE_SERIAL:
        if e.mfa.proved:
            value_text(value, e.mfa.serial)
    elif builtin == KEY_SOURCE_IDENTITY:
        if e.token != NULL:
            value_text(value, e.token.source_identity)
    elif builtin == KEY_PRINCIPAL_ARN:
        if e.principal != NULL:
            value_text(value, image_text(e.facts, e.principal.arn, e.principal.arn_len))
    elif builtin == KEY_PRINCIPAL_ACCOUNT:
        if e.account != NULL:
            value_text(value, image_text(e.facts, e.account.id, e.account.id_len))
        elif e.caller == CALLER_ANONYMOUS:
            value_text(value, slice_literal(b"anonymous", 9))
    elif builtin == KEY_PRINCIPAL_ORG_ID or builtin == KEY_PRINCIPAL_ORG_PATHS:
        account_organization(e, e.account, builtin == KEY_PRINCIPAL_ORG_PATHS, value)
    elif builtin == KEY_PRINCIPAL_TYPE:
        value_text(value, principal_type(e))
    elif builtin == KEY_PRINCIPAL_IS_AWS_SERVICE:
        if e.caller == CALLER_SERVICE:
            value_text(value, slice_literal(b"true", 4))
        elif e.caller != CALLER_ANONYMOUS:
            value_text(value, slice_literal(b"false", 5))
    elif builtin == KEY_PRINCIPAL_SERVICE_NAME:
        value_text(value, e.service_name)
    elif builtin == KEY_PRINCIPAL_SERVICE_NAMES:
        value_single_list(value, e.service_name)
    elif builtin == KEY_USER_ID:
        value_text(value, user_id(e))
    elif builtin == KEY_USERNAME:
        if e.caller == CALLER_USER:
            value_text(value, image_text(e.facts, e.principal.name, e.principal.name_len))
    elif builtin == KEY_VIA_AWS_SERVICE:
        value_text(value, slice_literal(b"false", 5))
    elif builtin == KEY_RESOURCE_ACCOUNT:
        value_text(value, e.owner)
    elif builtin == KEY_RESOURCE_ORG_ID or builtin == KEY_RESOURCE_ORG_PATHS:
        owner = &e.facts.accounts[e.owner_index] if e.owner_index != IMAGE_NONE else NULL
        account_organization(e, owner, builtin == KEY_RESOURCE_ORG_PATHS, value)


cdef inline bint entry_value(const Eval *e, uint32_t key, bint overriding, Value *value) noexcept nogil:
    # Whether the request (or its overrides) states the key, if only as null.
    cdef const ContextEntry *entry
    cdef uint32_t i = e.request.slots[key & (KEY_SLOTS - 1)]
    cdef uint32_t end = i
    if i == 0:
        return False
    if i == SLOT_SHARED:
        i = 1
        end = e.request.entry_count
    for i in range(i - 1, end):
        entry = &e.request.entries[i]
        if entry.key == key and entry.overriding == overriding:
            if entry.is_null:
                return True
            value.count = entry.count
            value.many = &e.request.values[entry.first]
            value.state = VALUE_IS_LIST if entry.is_list else VALUE_IS_ONE
            value.one = value.many[0]
            return True
    return False


cdef bint session_tag_value(const Eval *e, const Key *key, Value *value) noexcept nogil:
    # Whether the session has a tag of this name, if only an empty one; it hides that of the principal then.
    cdef Slice name = image_text(e.image, key.name + TAG_PREFIX, key.name_len - TAG_PREFIX)
    cdef uint32_t i
    for i in range(e.token.tag_count):
        if e.token.tags[i].key.len == name.len and equals_folded(e.token.tags[i].key.data, name.data, name.len):
            value_text(value, e.token.tags[i].value)
            return True
    return False


cdef inline void tag_value(const Eval *e, uint32_t key, Value *value) noexcept nogil:
    cdef const Tag *tag
    cdef uint32_t i
    if UNLIKELY(e.token != NULL) and session_tag_value(e, &e.image.keys[key], value):
        return
    if e.principal == NULL:
        return
    if UNLIKELY(e.facts != e.image):
        # Tags are known by the number of the key in the other image.
        key = table_find(
            e.facts, e.facts.key_table, e.facts.key_mask, e.facts.keys, sizeof(Key),
            e.image.strings + e.image.keys[key].name, e.image.keys[key].name_len,
        )
    for i in range(e.principal.tag_count):
        tag = &e.facts.tags[e.principal.tags + i]
        if tag.key == key:
            value_text(value, image_text(e.facts, tag.text, tag.len))
            return


cdef inline void key_value(Eval *e, uint32_t number, Value *value) noexcept nogil:
    # The value of a key for this request. value.one points into *value* for lists of one: do not copy it.
    cdef const Key *key = &e.image.keys[number]
    cdef bint is_mfa
    value.state = VALUE_IS_NULL
    value.moment_key = 0
    if key.source == SOURCE_CONTEXT:
        if UNLIKELY(e.request.override_count != 0) and entry_value(e, number, True, value):
            pass
        else:
            entry_value(e, number, False, value)
    else:
        is_mfa = key.source == SOURCE_BUILTIN and KEY_MFA_PRESENT <= key.builtin <= KEY_MFA_DEVICE_SERIAL
        if is_mfa:
            e.mfa_seen = True
            if key.builtin == KEY_MFA_AGE:
                e.age_seen = True
            elif key.builtin != KEY_MFA_PRESENT:
                e.factor_seen = True
        elif key.builtin == KEY_TOKEN_ISSUE_TIME and e.token == NULL:
            # A proof comes with a session, and that with a time of issue, which it keeps when something is proved.
            e.mfa_seen = True
        if (
            UNLIKELY(e.request.override_count != 0)
            and not (is_mfa and e.asking_again)
            and entry_value(e, number, True, value)
        ):
            pass
        elif key.source == SOURCE_PRINCIPAL_TAG:
            tag_value(e, number, value)
        else:
            builtin_value(e, key.builtin, value)
    if UNLIKELY(e.missing != NULL) and value.state == VALUE_IS_NULL:
        e.missing[number] = 1


# Variables.

cdef enum:
    EXPAND_FAILED = 0xFFFFFFFF


cdef uint32_t template_expand(Eval *e, const Pattern *pattern, bint is_resource, uint8_t *out) noexcept nogil:
    # Length of the text with its variables replaced, or EXPAND_FAILED: some variable has no value.
    # Substituted text is data: it holds no wildcard bytes, since those never occur in UTF-8.
    cdef const Piece *piece
    cdef Value value
    cdef Slice text
    cdef uint32_t length = 0
    cdef uint32_t colons = 0
    cdef uint32_t i
    cdef uint32_t k
    for i in range(pattern.piece_count):
        piece = &e.image.pieces[pattern.text + i]
        text = image_text(e.image, piece.text, piece.len)
        if piece.key != IMAGE_NONE:
            key_value(e, piece.key, &value)
            if value.state == VALUE_IS_ONE:
                moment_text(e, &value)
                text = value.one
            elif value.state == VALUE_IS_LIST or not piece.has_default:
                return EXPAND_FAILED
            # A substituted colon must not move the fields of a resource.
            if is_resource and colons < 5 and text.len and memchr(text.data, 58, text.len) != NULL:
                return EXPAND_FAILED
        elif is_resource and colons < 5:
            for k in range(text.len):
                if text.data[k] == 58:
                    colons += 1
        if text.len > EXPAND_CAPACITY - length:
            e.fault = True
            return EXPAND_FAILED
        memcpy(out + length, text.data, text.len)
        length += text.len
    return length


# Comparisons of one request value with one policy value.

cdef bint string_matches(Eval *e, const Test *test, const Pattern *pattern, Slice text) noexcept nogil:
    cdef uint8_t expanded[EXPAND_CAPACITY]
    cdef uint32_t length
    if LIKELY(pattern.kind != PATTERN_TEMPLATE):
        if test.comparison == COMPARE_EQUALS_IGNORE_CASE:
            return pattern.len == text.len and equals_folded(e.image.strings + pattern.text, text.data, text.len)
        return pattern_match_text(e.image, pattern, text.data, text.len)
    length = template_expand(e, pattern, False, expanded)
    if length == EXPAND_FAILED:
        return False
    if test.comparison == COMPARE_LIKE:
        return glob_match(expanded, length, text.data, text.len)
    if length != text.len:
        return False
    if test.comparison == COMPARE_EQUALS_IGNORE_CASE:
        return equals_folded(expanded, text.data, length)
    return memcmp(expanded, text.data, length) == 0


cdef bint arn_matches(Eval *e, const Pattern *pattern, const ArnText *arn) noexcept nogil:
    cdef uint8_t expanded[EXPAND_CAPACITY]
    cdef uint32_t length
    if pattern.kind != PATTERN_TEMPLATE:
        return pattern_match_arn(e.image, pattern, arn)
    length = template_expand(e, pattern, False, expanded)
    return length != EXPAND_FAILED and arn_glob(expanded, length, arn)


cdef inline int read_bool(const uint8_t *data, uint32_t length) noexcept nogil:
    # 1: true, 0: false, in any case; -1: neither.
    cdef uint32_t word = 0
    if length != 4 and length != 5:
        return -1
    memcpy(&word, data, 4)
    word |= 0x20202020
    if length == 4:
        return 1 if word == 0x65757274 else -1
    return 0 if word == 0x736C6166 and data[4] | 32 == 101 else -1


cdef bint bool_matches(Eval *e, const Pattern *pattern, int value) noexcept nogil:
    cdef uint8_t expanded[EXPAND_CAPACITY]
    cdef uint32_t length
    if pattern.kind != PATTERN_TEMPLATE:
        return read_bool(e.image.strings + pattern.text, pattern.len) == value
    length = template_expand(e, pattern, False, expanded)
    return length != EXPAND_FAILED and read_bool(expanded, length) == value


cdef inline bint moment_matches(const Test *test, const Moment *moment, const Instant *instant) noexcept nogil:
    cdef int order = moment_compare(moment, instant.seconds, instant.nanos)
    if test.comparison == COMPARE_EQUALS:
        return order == 0
    if test.comparison == COMPARE_LESS:
        return order < 0
    if test.comparison == COMPARE_LESS_EQUALS:
        return order <= 0
    if test.comparison == COMPARE_GREATER:
        return order > 0
    return order >= 0


cdef bint text_holds(Eval *e, const Test *test, Slice text, const Value *value, bint deny) noexcept nogil:
    # One request value against all policy values, negation applied.
    cdef const ImageView *image = e.image
    cdef bint negated = test.flags & TEST_NEGATED != 0
    # SPEC: docs/semantics.md: what cannot be read never matches; negated, it is false in an Allow and true in a Deny.
    cdef bint unreadable = negated and deny
    cdef bint found = False
    cdef uint32_t i
    cdef Moment moment
    cdef Address address
    cdef ArnText arn
    cdef int same
    if test.value_type == VALUE_STRING:
        for i in range(test.value_count):
            if string_matches(e, test, &image.patterns[test.values + i], text):
                found = True
                break
    elif test.value_type == VALUE_BOOL:
        same = read_bool(text.data, text.len)
        if same < 0:
            return unreadable
        for i in range(test.value_count):
            if bool_matches(e, &image.patterns[test.values + i], same):
                found = True
                break
    elif test.value_type == VALUE_NUMERIC or test.value_type == VALUE_DATE:
        if moment_is_read(value, test.value_type):
            moment = value.moment
        elif test.value_type == VALUE_NUMERIC:
            if not read_number(text, &moment):
                return unreadable
        elif not read_date(text, &moment):
            return unreadable
        for i in range(test.value_count):
            if moment_matches(test, &moment, &image.instants[test.values + i]):
                found = True
                break
    elif test.value_type == VALUE_IP:
        if not read_address(text, &address):
            return unreadable
        for i in range(test.value_count):
            if network_holds(&image.networks[test.values + i], &address):
                found = True
                break
    elif test.value_type == VALUE_ARN:
        if not arn_parse(text.data, text.len, &arn):
            return unreadable
        for i in range(test.value_count):
            if arn_matches(e, &image.patterns[test.values + i], &arn):
                found = True
                break
    elif test.value_type == VALUE_BINARY:
        for i in range(test.value_count):
            same = base64_equals(
                text, image.strings + image.patterns[test.values + i].text, image.patterns[test.values + i].len
            )
            if same < 0:
                return unreadable
            if same:
                found = True
                break
    return found != negated


cdef bint test_holds(Eval *e, const Test *test, bint deny) noexcept nogil:
    # SPEC: docs/semantics.md, the table of conditions.
    cdef Value value
    cdef uint32_t i
    key_value(e, test.key, &value)
    if test.value_type == VALUE_NULL:
        return test.flags & (TEST_EXPECT_NULL if value.state == VALUE_IS_NULL else TEST_EXPECT_PRESENT) != 0
    if value.state == VALUE_IS_NULL:
        if test.qualifier == QUALIFIER_ALL:
            return True
        if test.qualifier == QUALIFIER_ANY:
            return test.flags & TEST_IF_EXISTS != 0
        return test.flags & (TEST_IF_EXISTS | TEST_NEGATED) != 0
    if value.state == VALUE_IS_ONE:
        if UNLIKELY(value.moment_key != 0) and not moment_is_read(&value, test.value_type):
            moment_text(e, &value)
        return text_holds(e, test, value.one, &value, deny)
    if test.qualifier == QUALIFIER_NONE:
        return deny
    for i in range(value.count):
        if text_holds(e, test, value.many[i], &value, deny):
            if test.qualifier == QUALIFIER_ANY:
                return True
        elif test.qualifier == QUALIFIER_ALL:
            return False
    return test.qualifier == QUALIFIER_ALL


cdef inline bint block_holds(Eval *e, uint32_t number, bint deny) noexcept nogil:
    cdef const Block *block
    cdef uint32_t i
    if number == IMAGE_NONE:
        return True
    block = &e.image.blocks[number]
    for i in range(block.count):
        if not test_holds(e, &e.image.tests[block.tests + i], deny):
            return False
    return True
