# SPDX-License-Identifier: Apache-2.0
# Proof that an image is sound, given once, so that nothing behind this file checks an offset again. Each function
# returns NULL or what is wrong.

cdef const char *sections_unsound(const uint8_t *base, uint64_t size) noexcept nogil:
    cdef const ImageHeader *header = <const ImageHeader *>base
    cdef const ImageSection *sections = <const ImageSection *>(base + sizeof(ImageHeader))
    cdef uint64_t table_end = sizeof(ImageHeader) + SECTION_COUNT * sizeof(ImageSection)
    cdef uint32_t i
    if size < table_end:
        return "it is shorter than its header"
    if header.magic != IMAGE_MAGIC:
        return "it does not begin like an image"
    if header.format_version != IMAGE_FORMAT_VERSION or header.section_count != SECTION_COUNT:
        return "it is of another format version"
    if header.total_size != size:
        return "its length is not what its header says"
    for i in range(SECTION_COUNT):
        if sections[i].kind != i or sections[i].record_size != RECORD_SIZES[i]:
            return "its section table is of another format"
        if sections[i].offset % IMAGE_ALIGNMENT or sections[i].offset < table_end or sections[i].offset > size:
            return "a section stands outside of it"
        if sections[i].count > (size - sections[i].offset) / sections[i].record_size or sections[i].count > 0x7FFFFFFF:
            return "a section ends outside of it"
    return NULL


cdef inline bint run_outside(const ImageView *v, uint32_t section, uint64_t first, uint64_t count) noexcept nogil:
    return first + count > v.counts[section]


cdef inline bint text_outside(const ImageView *v, uint32_t offset, uint32_t length) noexcept nogil:
    return <uint64_t>offset + length > v.counts[SECTION_STRINGS]


cdef inline bint index_outside(const ImageView *v, uint32_t section, uint32_t index) noexcept nogil:
    return index >= v.counts[section]


cdef inline bint option_outside(const ImageView *v, uint32_t section, uint32_t index) noexcept nogil:
    return index != IMAGE_NONE and index >= v.counts[section]


cdef bint table_unsound(const ImageView *v, uint32_t table, const uint32_t *slots, uint32_t records) noexcept nogil:
    # A table has a power of two of slots, names records that exist, and has a free slot where searches end.
    cdef uint64_t size = v.counts[table]
    cdef uint64_t i
    cdef uint64_t used = 0
    if size == 0 or size & (size - 1):
        return True
    for i in range(size):
        if slots[i]:
            used += 1
            if slots[i] > v.counts[records]:
                return True
    return used >= size


cdef const char *parties_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    cdef const Principal *p
    cdef const Account *a
    cdef const PrincipalEntry *e
    cdef const ImageHeader *h = v.header
    if text_outside(v, h.organization, h.organization_len) or option_outside(v, SECTION_ACCOUNTS, h.only_account):
        return "its header points outside of it"
    for i in range(v.counts[SECTION_PRINCIPALS]):
        p = &v.principals[i]
        if (
            text_outside(v, p.key, p.key_len)
            or text_outside(v, p.arn, p.arn_len)
            or text_outside(v, p.name, p.name_len)
            or text_outside(v, p.unique_id, p.unique_id_len)
            or p.unique_id_len > 256
            or index_outside(v, SECTION_ACCOUNTS, p.account)
            or option_outside(v, SECTION_PRINCIPALS, p.parent)
            or run_outside(v, SECTION_TAGS, p.tags, p.tag_count)
            or p.kind < CALLER_USER
            or p.kind > CALLER_FEDERATED_USER
        ):
            return "a principal is damaged"
    for i in range(v.counts[SECTION_TAGS]):
        if index_outside(v, SECTION_KEYS, v.tags[i].key) or text_outside(v, v.tags[i].text, v.tags[i].len):
            return "a tag is damaged"
    for i in range(v.counts[SECTION_ACCOUNTS]):
        a = &v.accounts[i]
        if (
            text_outside(v, a.id, a.id_len)
            or a.id_len > 64
            or text_outside(v, a.partition, a.partition_len)
            or text_outside(v, a.path, a.path_len)
            or run_outside(v, SECTION_LEVELS, a.levels, a.level_count)
        ):
            return "an account is damaged"
    if v.counts[SECTION_ACCOUNT_DETAILS] != v.counts[SECTION_ACCOUNTS]:
        return "the details of an account are damaged"
    for i in range(v.counts[SECTION_ACCOUNT_DETAILS]):
        if text_outside(v, v.account_details[i].alias, v.account_details[i].alias_len):
            return "the details of an account are damaged"
    for i in range(v.counts[SECTION_PRINCIPAL_ENTRIES]):
        e = &v.principal_entries[i]
        if (
            e.kind > ENTRY_SERVICE
            or text_outside(v, e.text, e.len)
            or (e.kind == ENTRY_ACCOUNT and index_outside(v, SECTION_ACCOUNTS, e.ref))
            or ((e.kind == ENTRY_PRINCIPAL or e.kind == ENTRY_SESSION) and index_outside(v, SECTION_PRINCIPALS, e.ref))
        ):
            return "a principal of a statement is damaged"
    return NULL


cdef const char *set_unsound(const ImageView *v, const uint32_t *head, uint64_t room) noexcept nogil:
    # One policy set of which *room* words are left in its section. Rules that deny stand first, which the core relies on.
    cdef const PolicySet *s = <const PolicySet *>head
    cdef const uint16_t *services = <const uint16_t *>(head + 8)
    cdef const uint32_t *entries
    cdef const uint32_t *refs
    cdef uint64_t i
    cdef uint32_t k
    cdef uint32_t start
    cdef uint32_t end
    cdef uint32_t denies
    if room < 8 or s.words > room or s.words < 8 or s.words % SET_ALIGNMENT:
        return "a policy set ends outside of it"
    if (
        s.service_count > 0xFFFF
        or s.entries != 8 + (s.service_count + 1) // 2
        or s.any != s.entries + s.service_count + 1
        or s.any > s.words
        or s.any_count > s.words - s.any
        or s.any_denies > s.any_count
    ):
        return "a policy set is damaged"
    entries = head + s.entries
    refs = head + s.any
    if entries[s.service_count] > s.words - s.any - s.any_count:
        return "a policy set is damaged"
    for i in range(<uint64_t>s.any_count + entries[s.service_count]):
        if index_outside(v, SECTION_RULES, refs[i]):
            return "a rule reference points outside of it"
    for i in range(s.any_count):
        if (v.rules[refs[i]].flags & RULE_DENY != 0) != (i < s.any_denies):
            return "a policy set is out of order"
    refs += s.any_count
    for k in range(s.service_count):
        start = entries[k] & 0xFFFF
        denies = entries[k] >> 16
        end = entries[k + 1] & 0xFFFF
        if (
            start > end
            or end > entries[s.service_count]
            or denies > end - start
            or index_outside(v, SECTION_SERVICES, services[k])
            or (k and services[k - 1] >= services[k])
            or (denies and s.deny_services >> (services[k] & 31) & 1 == 0)
        ):
            return "a policy set is damaged"
        for i in range(start, end):
            if (v.rules[refs[i]].flags & RULE_DENY != 0) != (i < start + denies):
                return "a policy set is out of order"
    return NULL


cdef const char *sets_unsound(const ImageView *v, uint8_t *begins) noexcept nogil:
    # Sets stand one behind the other; whatever names one must name where one begins.
    cdef uint64_t total = v.counts[SECTION_SETS]
    cdef uint64_t place = 0
    cdef uint64_t i
    cdef const char *wrong = NULL
    while place < total and wrong == NULL:
        wrong = set_unsound(v, v.sets + place, total - place)
        begins[place // SET_ALIGNMENT] = 1
        place += v.sets[place] if wrong == NULL else 0
    if wrong == NULL and v.counts[SECTION_SESSION_SETS] > 1:
        wrong = "it has more than one set of session policies"
    for i in range(v.counts[SECTION_PRINCIPALS]):
        if no_set(v, begins, v.principals[i].identity) or (
            v.principals[i].boundary != IMAGE_NONE and no_set(v, begins, v.principals[i].boundary)
        ):
            wrong = "a principal is damaged"
    for i in range(v.counts[SECTION_ACCOUNTS]):
        if (v.accounts[i].service_control != IMAGE_NONE and no_set(v, begins, v.accounts[i].service_control)) or (
            v.accounts[i].resource_control != IMAGE_NONE and no_set(v, begins, v.accounts[i].resource_control)
        ):
            wrong = "an account is damaged"
    for i in range(v.counts[SECTION_LEVELS]):
        if no_set(v, begins, v.levels[i]):
            wrong = "a control level is damaged"
    for i in range(v.counts[SECTION_RESOURCE_POLICIES]):
        if no_set(v, begins, v.resource_policies[i].set):
            wrong = "a resource policy is damaged"
    for i in range(v.counts[SECTION_WILDCARD_POLICIES]):
        if no_set(v, begins, v.wildcard_policies[i].set):
            wrong = "a resource policy is damaged"
    for i in range(v.counts[SECTION_ROLE_TRUSTS]):
        if no_set(v, begins, v.role_trusts[i].set):
            wrong = "a trust policy is damaged"
    for i in range(v.counts[SECTION_SESSION_SETS]):
        if no_set(v, begins, v.session_sets[i]):
            wrong = "its session policies are damaged"
    return wrong


cdef inline bint no_set(const ImageView *v, const uint8_t *begins, uint32_t word) noexcept nogil:
    return word >= v.counts[SECTION_SETS] or word % SET_ALIGNMENT or begins[word // SET_ALIGNMENT] == 0


cdef const char *rules_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    cdef const Rule *r
    cdef uint32_t how
    for i in range(v.counts[SECTION_RULES]):
        r = &v.rules[i]
        how = r.flags & (RULE_ACTION_ALL | RULE_ACTION_ONE | RULE_ACTION_SET | RULE_ACTION_WIDE)
        if (
            index_outside(v, SECTION_STATEMENT_NAMES, r.statement)
            or how == 0
            or how & (how - 1)
            or (how == RULE_ACTION_ONE and r.actions == IMAGE_NONE)
            or (how == RULE_ACTION_SET and index_outside(v, SECTION_ACTION_SETS, r.actions))
            or (how == RULE_ACTION_WIDE and index_outside(v, SECTION_WIDE_SETS, r.actions))
            or option_outside(v, SECTION_BLOCKS, r.block)
            or run_outside(v, SECTION_PRINCIPAL_ENTRIES, r.principals, r.principal_count)
        ):
            return "a rule is damaged"
        if r.flags & RULE_RESOURCE_ANY:
            continue
        if r.flags & RULE_RESOURCE_ONE:
            if index_outside(v, SECTION_PATTERNS, r.resources):
                return "a rule is damaged"
        elif index_outside(v, SECTION_RESOURCE_SETS, r.resources):
            return "a rule is damaged"
    for i in range(v.counts[SECTION_RESOURCE_SETS]):
        if run_outside(v, SECTION_PATTERNS, v.resource_sets[i].patterns, v.resource_sets[i].count):
            return "a resource set is damaged"
    for i in range(v.counts[SECTION_STATEMENT_NAMES]):
        if index_outside(v, SECTION_POLICY_NAMES, v.statement_names[i].policy) or text_outside(
            v, v.statement_names[i].sid, v.statement_names[i].sid_len
        ):
            return "a statement is damaged"
    for i in range(v.counts[SECTION_POLICY_NAMES]):
        if text_outside(v, v.policy_names[i].name, v.policy_names[i].name_len):
            return "the name of a policy is damaged"
    return NULL


cdef const char *actions_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    cdef const ActionSet *s
    cdef const WideSet *w
    for i in range(v.counts[SECTION_SERVICES]):
        if text_outside(v, v.services[i].name, v.services[i].name_len):
            return "a service is damaged"
    for i in range(v.counts[SECTION_ACTIONS]):
        if (
            text_outside(v, v.actions[i].name, v.actions[i].name_len)
            or index_outside(v, SECTION_SERVICES, v.actions[i].service)
            or v.actions[i].number == IMAGE_NONE
        ):
            return "an action is damaged"
    for i in range(v.counts[SECTION_ACTION_SETS]):
        s = &v.action_sets[i]
        if run_outside(v, SECTION_ACTION_WORDS, s.words, s.word_count) or run_outside(
            v, SECTION_PATTERNS, s.globs, s.glob_count
        ):
            return "an action set is damaged"
    for i in range(v.counts[SECTION_WIDE_SETS]):
        w = &v.wide_sets[i]
        if run_outside(v, SECTION_WIDE_SERVICES, w.services, w.service_count) or run_outside(
            v, SECTION_PATTERNS, w.globs, w.glob_count
        ):
            return "an action set is damaged"
    for i in range(v.counts[SECTION_WIDE_SERVICES]):
        if index_outside(v, SECTION_SERVICES, v.wide_services[i].service) or option_outside(
            v, SECTION_ACTION_SETS, v.wide_services[i].actions
        ):
            return "an action set is damaged"
    return NULL


cdef const char *conditions_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    cdef const Test *t
    cdef const Pattern *p
    cdef uint32_t section
    for i in range(v.counts[SECTION_PATTERNS]):
        p = &v.patterns[i]
        if p.kind < PATTERN_ANY or p.kind > PATTERN_TEMPLATE:
            return "a pattern is damaged"
        if p.kind == PATTERN_TEMPLATE:
            # Binary values are read as text of this length without a look at the kind: it must be none.
            if p.len or run_outside(v, SECTION_PIECES, p.text, p.piece_count):
                return "a pattern is damaged"
        elif text_outside(v, p.text, p.len) or p.literal > p.len:
            return "a pattern is damaged"
    for i in range(v.counts[SECTION_PIECES]):
        if option_outside(v, SECTION_KEYS, v.pieces[i].key) or text_outside(v, v.pieces[i].text, v.pieces[i].len):
            return "a policy variable is damaged"
    for i in range(v.counts[SECTION_BLOCKS]):
        if run_outside(v, SECTION_TESTS, v.blocks[i].tests, v.blocks[i].count):
            return "a condition block is damaged"
    for i in range(v.counts[SECTION_TESTS]):
        t = &v.tests[i]
        if t.value_type < VALUE_STRING or t.value_type > VALUE_NULL or t.qualifier > QUALIFIER_ANY:
            return "a condition is damaged"
        if t.value_type == VALUE_NUMERIC or t.value_type == VALUE_DATE:
            section = SECTION_INSTANTS
        elif t.value_type == VALUE_IP:
            section = SECTION_NETWORKS
        else:
            section = SECTION_PATTERNS
        if index_outside(v, SECTION_KEYS, t.key) or run_outside(v, section, t.values, t.value_count):
            return "a condition is damaged"
    for i in range(v.counts[SECTION_INSTANTS]):
        if v.instants[i].nanos >= 1000000000:
            return "a number is damaged"
    for i in range(v.counts[SECTION_NETWORKS]):
        if not (
            (v.networks[i].family == 4 and v.networks[i].prefix <= 32)
            or (v.networks[i].family == 6 and v.networks[i].prefix <= 128)
        ):
            return "a network is damaged"
    for i in range(v.counts[SECTION_KEYS]):
        if text_outside(v, v.keys[i].name, v.keys[i].name_len) or (
            v.keys[i].source == SOURCE_PRINCIPAL_TAG and v.keys[i].name_len < TAG_PREFIX
        ):
            return "a condition key is damaged"
    return NULL


cdef const char *resources_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    cdef const ResourcePolicy *p
    for i in range(v.counts[SECTION_RESOURCE_POLICIES] + v.counts[SECTION_WILDCARD_POLICIES]):
        if i < v.counts[SECTION_RESOURCE_POLICIES]:
            p = &v.resource_policies[i]
        else:
            p = &v.wildcard_policies[i - v.counts[SECTION_RESOURCE_POLICIES]]
        if (
            text_outside(v, p.arn, p.arn_len)
            or index_outside(v, SECTION_ACCOUNTS, p.account)
        ):
            return "a resource policy is damaged"
    for i in range(v.counts[SECTION_ROLE_TRUSTS]):
        if text_outside(v, v.role_trusts[i].arn, v.role_trusts[i].arn_len) or index_outside(
            v, SECTION_PRINCIPALS, v.role_trusts[i].principal
        ):
            return "a trust policy is damaged"
    for i in range(1, v.counts[SECTION_WILDCARD_LENGTHS]):
        if v.wildcard_lengths[i - 1] <= v.wildcard_lengths[i]:
            return "its wildcard policies are out of order"
    return NULL


cdef const char *tables_unsound(const ImageView *v) noexcept nogil:
    if (
        table_unsound(v, SECTION_PRINCIPAL_TABLE, v.principal_table, SECTION_PRINCIPALS)
        or table_unsound(v, SECTION_ACCOUNT_TABLE, v.account_table, SECTION_ACCOUNTS)
        or table_unsound(v, SECTION_SERVICE_TABLE, v.service_table, SECTION_SERVICES)
        or table_unsound(v, SECTION_ACTION_TABLE, v.action_table, SECTION_ACTIONS)
        or table_unsound(v, SECTION_KEY_TABLE, v.key_table, SECTION_KEYS)
        or table_unsound(v, SECTION_RESOURCE_POLICY_TABLE, v.resource_policy_table, SECTION_RESOURCE_POLICIES)
        or table_unsound(v, SECTION_WILDCARD_POLICY_TABLE, v.wildcard_policy_table, SECTION_WILDCARD_POLICIES)
        or table_unsound(v, SECTION_ROLE_TRUST_TABLE, v.role_trust_table, SECTION_ROLE_TRUSTS)
    ):
        return "one of its tables is damaged"
    return NULL


cdef const char *shadow_unsound(const ImageView *v) noexcept nogil:
    # What stands in shadow; the image that holds it is proved by itself.
    cdef uint64_t count = v.counts[SECTION_SHADOW]
    cdef uint64_t i
    cdef const ShadowRecord *s
    if (count == 0) != (v.counts[SECTION_SHADOW_IMAGE] == 0):
        return "what it holds in shadow is damaged"
    for i in range(count):
        s = &v.shadow_entries[i]
        if (
            text_outside(v, s.id, s.id_len)
            or s.kind > SHADOW_ROUTE
            or s.until < (v.shadow_entries[i - 1].until if i else 0)
            or s.until > SHADOW_LAST_UNTIL
        ):
            return "what it holds in shadow is damaged"
    return NULL


cdef const char *image_unsound(const ImageView *v, uint8_t *begins) noexcept nogil:
    # Tables last: their records' texts must have been checked. *begins* has a zero for every SET_ALIGNMENT words of the
    # section of sets, and one more.
    cdef const char *wrong = parties_unsound(v)
    if wrong == NULL:
        wrong = rules_unsound(v)
    if wrong == NULL:
        wrong = actions_unsound(v)
    if wrong == NULL:
        wrong = conditions_unsound(v)
    if wrong == NULL:
        wrong = resources_unsound(v)
    if wrong == NULL:
        wrong = shadow_unsound(v)
    if wrong == NULL:
        wrong = sets_unsound(v, begins)
    if wrong == NULL:
        wrong = tables_unsound(v)
    return wrong
