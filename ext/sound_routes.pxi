# SPDX-License-Identifier: Apache-2.0
# Proof that the routes of an image are sound, likewise.

cdef bint template_unsound(const ImageView *v, uint64_t first, uint64_t count, uint32_t captures) noexcept nogil:
    # A template names only captures that are there.
    cdef uint64_t i
    if count > MAX_PIECES or run_outside(v, SECTION_ROUTE_PIECES, first, count):
        return True
    for i in range(first, first + count):
        if v.route_pieces[i].source == PIECE_CAPTURE and v.route_pieces[i].capture >= captures:
            return True
    return False


cdef const char *route_texts_unsound(const ImageView *v) noexcept nogil:
    cdef uint64_t i
    for i in range(v.counts[SECTION_ROUTE_PIECES]):
        if (
            v.route_pieces[i].source > PIECE_PATH
            or v.route_pieces[i].rule > VALUE_RULE_NAME
            or text_outside(v, v.route_pieces[i].text, v.route_pieces[i].len)
        ):
            return "a template is damaged"
    for i in range(v.counts[SECTION_ROUTE_TEXTS]):
        if text_outside(v, v.route_texts[i].text, v.route_texts[i].len):
            return "a rule of callers is damaged"
    return NULL


cdef bint route_unsound(const ImageView *v, const RouteRecord *r) noexcept nogil:
    cdef const RouteContext *entry
    cdef uint64_t i
    if (
        text_outside(v, r.id, r.id_len)
        or r.captures > MAX_CAPTURES
        or (r.flags & ROUTE_PUBLIC == 0 and (r.action_count == 0 or r.resource_count == 0))
        or template_unsound(v, r.action, r.action_count, r.captures)
        or template_unsound(v, r.resource, r.resource_count, r.captures)
        or template_unsound(v, r.account, r.account_count, r.captures)
        or r.context_count > MAX_CONTEXT_KEYS
        or run_outside(v, SECTION_ROUTE_CONTEXT, r.context, r.context_count)
    ):
        return True
    for i in range(r.context_count):
        entry = &v.route_context[r.context + i]
        if (
            text_outside(v, entry.key, entry.key_len)
            or entry.piece_count == 0
            or template_unsound(v, entry.pieces, entry.piece_count, r.captures)
        ):
            return True
    return False


cdef bint child_unsound(const ImageView *v, uint8_t *entered, uint64_t parent, uint32_t child) noexcept nogil:
    # INVARIANT: children stand behind their parent, of which each has one. So a search ends, and enters no node twice.
    if index_outside(v, SECTION_ROUTE_NODES, child) or child <= parent or entered[child]:
        return True
    entered[child] = 1
    return False


cdef const char *tree_unsound(const ImageView *v, uint8_t *entered) noexcept nogil:
    cdef const RouteNode *n
    cdef const RouteMixed *m
    cdef const RouteEdge *e
    cdef const RouteLeaf *leaf
    cdef uint64_t leaves = 0
    cdef uint64_t i
    cdef uint64_t k
    for i in range(v.counts[SECTION_ROUTE_HOSTS]):
        if (
            text_outside(v, v.route_hosts[i].name, v.route_hosts[i].name_len)
            or index_outside(v, SECTION_ROUTE_NODES, v.route_hosts[i].root)
            or entered[v.route_hosts[i].root]
        ):
            return "a host of routes is damaged"
        entered[v.route_hosts[i].root] = 1
    for i in range(v.counts[SECTION_ROUTE_NODES]):
        n = &v.route_nodes[i]
        leaves += <uint64_t>n.leaf_count + n.rest_count
        if (
            run_outside(v, SECTION_ROUTE_MIXED, n.mixed, n.mixed_count)
            or run_outside(v, SECTION_ROUTE_LEAVES, n.leaves, n.leaf_count)
            or run_outside(v, SECTION_ROUTE_LEAVES, n.rest, n.rest_count)
            or leaves > v.counts[SECTION_ROUTE_LEAVES]
            or (n.any != IMAGE_NONE and child_unsound(v, entered, i, n.any))
        ):
            return "a node of routes is damaged"
        for k in range(n.mixed_count):
            m = &v.route_mixed[n.mixed + k]
            if (
                text_outside(v, m.before, m.before_len)
                or text_outside(v, m.behind, m.behind_len)
                or child_unsound(v, entered, i, m.child)
            ):
                return "a node of routes is damaged"
    for i in range(v.counts[SECTION_ROUTE_EDGES]):
        e = &v.route_edges[i]
        if text_outside(v, e.text, e.len) or child_unsound(v, entered, e.parent, e.child):
            return "a segment of routes is damaged"
    for i in range(v.counts[SECTION_ROUTE_LEAVES]):
        leaf = &v.route_leaves[i]
        if index_outside(v, SECTION_ROUTES, leaf.route) or text_outside(v, leaf.method, leaf.method_len):
            return "a method of a route is damaged"
    return NULL


cdef bint peer_rule_unsound(const ImageView *v, const CallerRule *r) noexcept nogil:
    # The name in a certificate is of texts, and of captures numbered in their order.
    cdef uint32_t captures = 0
    cdef uint32_t i
    if r.test_count == 0 or r.test_count > MAX_PIECES or run_outside(v, SECTION_ROUTE_PIECES, r.tests, r.test_count):
        return True
    for i in range(r.test_count):
        if v.route_pieces[r.tests + i].source == PIECE_CAPTURE:
            if v.route_pieces[r.tests + i].capture != captures or captures == MAX_CAPTURES:
                return True
            captures += 1
        elif v.route_pieces[r.tests + i].source != PIECE_TEXT:
            return True
    return template_unsound(v, r.principal, r.principal_count, captures)


cdef bint key_rule_unsound(const ImageView *v, const CallerRule *r) noexcept nogil:
    # The name of a client, then digests in hex.
    cdef uint32_t i
    if r.text_count == 0 or r.text_count > MAX_PIECES or run_outside(v, SECTION_ROUTE_TEXTS, r.texts, r.text_count):
        return True
    for i in range(1, r.text_count):
        if v.route_texts[r.texts + i].len != 64:
            return True
    return r.name_len == 0


cdef bint jwt_rule_unsound(const ImageView *v, const CallerRule *r) noexcept nogil:
    return (
        r.test_count > MAX_PIECES
        or run_outside(v, SECTION_CLAIM_TESTS, r.tests, r.test_count)
        or memchr(v.strings + r.name, 0, r.name_len) == NULL
    )


cdef const char *callers_unsound(const ImageView *v) noexcept nogil:
    cdef const CallerRule *r
    cdef const ClaimTest *t
    cdef uint64_t i
    cdef bint wrong
    for i in range(v.counts[SECTION_CLAIM_TESTS]):
        t = &v.claim_tests[i]
        if text_outside(v, t.claim, t.claim_len) or run_outside(v, SECTION_ROUTE_TEXTS, t.texts, t.text_count):
            return "a test of a claim is damaged"
    for i in range(v.counts[SECTION_CALLER_RULES]):
        r = &v.caller_rules[i]
        wrong = text_outside(v, r.name, r.name_len)
        if r.source == CALLER_SOURCE_CERTIFICATE:
            wrong = wrong or peer_rule_unsound(v, r)
        else:
            wrong = wrong or template_unsound(v, r.principal, r.principal_count, 0)
        if r.source == CALLER_SOURCE_JWT:
            wrong = wrong or jwt_rule_unsound(v, r)
        elif r.source == CALLER_SOURCE_API_KEY:
            wrong = wrong or key_rule_unsound(v, r)
        # Nobody becomes the anonymous caller by a credential.
        if r.source < CALLER_SOURCE_SESSION_TOKEN or r.source > CALLER_SOURCE_ANONYMOUS or (
            r.principal_count == 0 and r.source != CALLER_SOURCE_SESSION_TOKEN and r.source != CALLER_SOURCE_ANONYMOUS
        ):
            wrong = True
        if wrong:
            return "a rule of callers is damaged"
    return NULL


cdef const char *routes_unsound(const ImageView *v, uint8_t *entered) noexcept nogil:
    # Tables last, as before. *entered* has a zero for every node of routes.
    cdef const char *wrong = route_texts_unsound(v)
    cdef uint64_t i
    if v.counts[SECTION_ROUTE_SETTINGS] > 1 or (
        v.counts[SECTION_ROUTE_SETTINGS] == 0
        and v.counts[SECTION_ROUTES] + v.counts[SECTION_ROUTE_HOSTS] + v.counts[SECTION_CALLER_RULES] != 0
    ):
        return "the settings of its routes are damaged"
    if wrong == NULL:
        wrong = tree_unsound(v, entered)
    for i in range(v.counts[SECTION_ROUTES] if wrong == NULL else 0):
        if route_unsound(v, &v.routes[i]):
            return "a route is damaged"
    if wrong == NULL:
        wrong = callers_unsound(v)
    if wrong == NULL and (
        table_unsound(v, SECTION_ROUTE_HOST_TABLE, v.route_host_table, SECTION_ROUTE_HOSTS)
        or table_unsound(v, SECTION_ROUTE_EDGE_TABLE, v.route_edge_table, SECTION_ROUTE_EDGES)
    ):
        wrong = "one of its tables is damaged"
    return wrong
