# SPDX-License-Identifier: Apache-2.0
# Everything that led to a decision: statements that apply, keys that were missing. Not on the hot path.

cdef void note_pattern_keys(Eval *e, const Pattern *pattern) noexcept nogil:
    # Ask for each variable of a pattern, so that e.missing learns of those without a value.
    cdef Value value
    cdef uint32_t i
    if pattern.kind != PATTERN_TEMPLATE:
        return
    for i in range(pattern.piece_count):
        if e.image.pieces[pattern.text + i].key != IMAGE_NONE:
            key_value(e, e.image.pieces[pattern.text + i].key, &value)


cdef void note_resource_keys(Eval *e, const Rule *rule) noexcept nogil:
    cdef const ResourceSet *resources
    cdef uint32_t i
    if rule.flags & RULE_RESOURCE_ANY:
        return
    if rule.flags & RULE_RESOURCE_ONE:
        note_pattern_keys(e, &e.image.patterns[rule.resources])
        return
    resources = &e.image.resource_sets[rule.resources]
    for i in range(resources.count):
        note_pattern_keys(e, &e.image.patterns[resources.patterns + i])


cdef void note_block_keys(Eval *e, const Rule *rule) noexcept nogil:
    cdef const Block *block
    cdef const Test *test
    cdef Value value
    cdef uint32_t i
    cdef uint32_t k
    if rule.block == IMAGE_NONE:
        return
    block = &e.image.blocks[rule.block]
    for i in range(block.count):
        test = &e.image.tests[block.tests + i]
        key_value(e, test.key, &value)
        if test.value_type == VALUE_STRING or test.value_type == VALUE_BOOL or test.value_type == VALUE_ARN:
            for k in range(test.value_count):
                note_pattern_keys(e, &e.image.patterns[test.values + k])


cdef bint rule_applies_noting(Eval *e, const Rule *rule, bint must_grant) noexcept nogil:
    # Whether a rule applies, like rule_denies and rule_allows, but with every key that it asks for noted.
    cdef bint deny = rule.flags & RULE_DENY != 0
    cdef uint32_t names
    if not rule_has_action(e, rule):
        return False
    if rule.flags & RULE_PRINCIPAL:
        names = rule_names(e, rule)
        if not deny:
            names &= NAMES_CALLER | NAMES_PARENT | NAMES_ACCOUNT
            if must_grant and e.caller == CALLER_ANONYMOUS:
                names = 0
        if names == 0:
            return False
    if rule.flags & RULE_NOT_PRINCIPAL and rule_exempts(e, rule):
        return False
    note_resource_keys(e, rule)
    if not rule_has_resource(e, rule):
        return False
    note_block_keys(e, rule)
    return block_holds(e, rule.block, deny)


cdef int explain_refs(
    Eval *e, const uint32_t *ref, const uint32_t *end, object layer, bint must_grant, set matches
) except -1:
    while ref != end:
        if rule_applies_noting(e, &e.image.rules[ref[0]], must_grant):
            matches.add(statement_match(e.image, &e.image.rules[ref[0]], layer))
        ref += 1
    return 0


cdef int explain_span(Eval *e, const Span *span, object layer, bint must_grant, set matches) except -1:
    explain_refs(e, span.any, span.any_end, layer, must_grant, matches)
    return explain_refs(e, span.own, span.own_end, layer, must_grant, matches)


cdef object statement_match(const ImageView *image, const Rule *rule, object layer):
    cdef const StatementName *statement = &image.statement_names[rule.statement]
    cdef const PolicyName *policy = &image.policy_names[statement.policy]
    return StatementMatch(
        layer,
        image_str(image, policy.name, policy.name_len),
        image_str(image, statement.sid, statement.sid_len),
        statement.index,
        "Deny" if rule.flags & RULE_DENY else "Allow",
    )


cdef set missing_names(const ImageView *image, const uint8_t *missing):
    return {
        image_str(image, image.keys[i].name, image.keys[i].name_len)
        for i in range(image.counts[SECTION_KEYS]) if missing[i]
    }


cdef set explain_narrow(Eval *narrow, const Layers *layers, set matches):
    # The session policies of a token, whose keys have numbers of their own. Returns those that were missing.
    cdef bytearray missing = bytearray(narrow.image.counts[SECTION_KEYS] + 1)
    cdef uint8_t[::1] view = missing
    narrow.missing = &view[0]
    explain_span(narrow, &layers.session, PolicyLayer.SESSION, False, matches)
    narrow.missing = NULL
    return missing_names(narrow.image, &view[0])


cdef tuple explain_layers(Eval *e, const Layers *layers):
    # Statements that apply and missing keys, both sorted, over every layer that applies to the caller.
    cdef bytearray missing = bytearray(e.image.counts[SECTION_KEYS] + 1)
    cdef uint8_t[::1] view = missing
    matches = set()
    e.missing = &view[0]
    explain_span(e, &layers.service_control, PolicyLayer.SERVICE_CONTROL, False, matches)
    explain_span(e, &layers.resource_control, PolicyLayer.RESOURCE_CONTROL, False, matches)
    explain_span(e, &layers.resource, PolicyLayer.RESOURCE, layers.must_grant, matches)
    explain_span(e, &layers.identity, PolicyLayer.IDENTITY, False, matches)
    explain_span(e, &layers.boundary, PolicyLayer.PERMISSIONS_BOUNDARY, False, matches)
    if layers.has_session and layers.narrow == NULL:
        explain_span(e, &layers.session, PolicyLayer.SESSION, False, matches)
    e.missing = NULL
    keys = missing_names(e.image, &view[0])
    if layers.narrow != NULL:
        keys |= explain_narrow(session_ask(e, layers), layers, matches)
    return tuple(sorted(matches)), tuple(sorted(keys))
