# SPDX-License-Identifier: Apache-2.0
# Which route a request takes: its host, then segment by segment down a tree, in which the number of routes does not count.

cdef enum:
    # SPEC: RFC 1035, section 2.3.4. A longer name is that of no host.
    HOST_MOST = 255


# The route that was found. What it points to is in the image and in the target.
cdef struct RouteMatch:
    const RouteRecord *route
    uint32_t capture_count
    Slice captures[MAX_CAPTURES]  # decoded


# Where the walk stands behind as many segments.
cdef struct RouteStep:
    uint32_t node
    uint32_t next             # the way to try: fixed text, each text round a name, any segment, all that follows
    uint32_t captures


# What is asked of each leaf.
cdef struct MethodAsked:
    Slice name
    uint32_t bit              # 0: it has none of its own


cdef inline MethodAsked method_asked(Slice name) noexcept nogil:
    cdef MethodAsked asked
    cdef uint32_t i
    asked.name = name
    asked.bit = 0
    for i in range(HTTP_METHODS_COUNT if name.len else 0):
        if HTTP_METHODS[i][0] == <char>name.data[0] and slice_equals(
            name, <const uint8_t *>HTTP_METHODS[i], <uint32_t>strlen(HTTP_METHODS[i])
        ):
            asked.bit = <uint32_t>1 << i
            break
    return asked


cdef const RouteRecord *leaf_find(
    const ImageView *image, uint32_t first, uint32_t count, const MethodAsked *method, uint32_t captures
) noexcept nogil:
    # The first of these routes that has this method, NULL: none.
    cdef const RouteLeaf *leaf
    cdef uint32_t i
    for i in range(count):
        leaf = &image.route_leaves[first + i]
        if (
            leaf.methods == ALL_METHODS
            or leaf.methods & method.bit
            or (leaf.method_len and slice_equals(method.name, image.strings + leaf.method, leaf.method_len))
        ) and image.routes[leaf.route].captures == captures:
            return &image.routes[leaf.route]
    return NULL


cdef uint32_t edge_find(const ImageView *image, uint32_t parent, Slice key) noexcept nogil:
    # The node behind a segment of fixed text, or IMAGE_NONE.
    cdef uint32_t slot = (hash_text(key.data, key.len) ^ parent * <uint32_t>EDGE_MULTIPLIER) & image.route_edge_mask
    cdef uint32_t number
    cdef const RouteEdge *edge
    while True:
        number = image.route_edge_table[slot]
        if number == 0:
            return IMAGE_NONE
        edge = &image.route_edges[number - 1]
        if edge.parent == parent and slice_equals(key, image.strings + edge.text, edge.len):
            return edge.child
        slot = (slot + 1) & image.route_edge_mask


cdef inline bint mixed_match(const ImageView *image, const RouteMixed *mixed, Slice key) noexcept nogil:
    return (
        key.len > <uint64_t>mixed.before_len + mixed.behind_len
        and memcmp(key.data, image.strings + mixed.before, mixed.before_len) == 0
        and memcmp(key.data + key.len - mixed.behind_len, image.strings + mixed.behind, mixed.behind_len) == 0
    )


cdef uint32_t route_way(
    const ImageView *image, const RouteStep *step, Slice segment, Slice key, RouteMatch *m, uint32_t *captures
) noexcept nogil:
    # The node that one way leads to, with what it captures put into *m*, or IMAGE_NONE.
    cdef const RouteNode *node = &image.route_nodes[step.node]
    cdef const RouteMixed *mixed
    captures[0] = step.captures
    if step.next == 0:
        return edge_find(image, step.node, key) if node.edge_count else IMAGE_NONE
    # SAFETY: there is room for what the matched route captures; whatever captures more is no match.
    if step.captures == MAX_CAPTURES or segment.len == 0:
        return IMAGE_NONE
    captures[0] += 1
    if step.next <= node.mixed_count:
        mixed = &image.route_mixed[node.mixed + step.next - 1]
        if not mixed_match(image, mixed, key):
            return IMAGE_NONE
        m.captures[step.captures] = slice_of(
            segment.data + mixed.before_len, segment.len - mixed.before_len - mixed.behind_len
        )
        return mixed.child
    m.captures[step.captures] = segment
    return node.any


cdef const RouteRecord *rest_find(
    const ImageView *image, const RouteStep *step, Slice rest, const MethodAsked *method, RouteMatch *m
) noexcept nogil:
    # The route that takes all that follows, or NULL.
    cdef const RouteNode *node = &image.route_nodes[step.node]
    cdef const RouteRecord *route
    if step.captures == MAX_CAPTURES:
        return NULL
    route = leaf_find(image, node.rest, node.rest_count, method, step.captures + 1)
    if route != NULL:
        m.captures[step.captures] = rest
        m.capture_count = step.captures + 1
    return route


cdef const RouteRecord *root_search(
    const ImageView *image, uint32_t root, const MethodAsked *method, const Target *t, RouteMatch *m
) noexcept nogil:
    # The most specific route below *root*, NULL: none. Ways are tried from the most specific one on; each node of the tree
    # is entered at most once, as it has one parent.
    cdef RouteStep steps[MAX_SEGMENTS + 1]
    cdef RouteStep *step
    cdef const RouteNode *node
    cdef const RouteRecord *route
    cdef Slice segment
    cdef uint32_t depth = 0
    cdef uint32_t child
    cdef uint32_t captures
    steps[0].node = root
    steps[0].next = 0
    steps[0].captures = 0
    while True:
        step = &steps[depth]
        node = &image.route_nodes[step.node]
        if depth == t.segment_count:
            route = leaf_find(image, node.leaves, node.leaf_count, method, step.captures)
            m.capture_count = step.captures
        elif step.next > node.mixed_count + 1:
            segment = t.segments[depth]
            segment.len = <uint32_t>(t.path.data + t.path.len - segment.data)
            route = rest_find(image, step, segment, method, m)
        else:
            child = route_way(image, step, t.segments[depth], target_key(t, depth), m, &captures)
            step.next += 1
            if child != IMAGE_NONE:
                depth += 1
                steps[depth].node = child
                steps[depth].next = 0
                steps[depth].captures = captures
            continue
        if route != NULL:
            return route
        if depth == 0:
            return NULL
        depth -= 1


cdef uint32_t host_read(Slice host, uint8_t *out) noexcept nogil:
    # The name of a host as routes know it: in lower case, without port and the dot of the root. 0: it is none.
    # *out* has room for HOST_MOST + 8.
    cdef uint32_t length = host.len
    cdef uint32_t digits = 0
    while digits < length and 48 <= host.data[length - 1 - digits] <= 57:
        digits += 1
    if digits < length and host.data[length - 1 - digits] == 58:
        length -= digits + 1
    if length and host.data[length - 1] == 46:
        length -= 1
    # A dot in front would find the entry of all hosts below one.
    if length == 0 or length > HOST_MOST or host.data[0] == 46:
        return 0
    fold_ascii(host.data, length, out)
    return length


cdef inline uint32_t host_find(const ImageView *image, const uint8_t *name, uint32_t length) noexcept nogil:
    return table_find(
        image, image.route_host_table, image.route_host_mask, image.route_hosts, sizeof(RouteHost), name, length
    )


cdef bint host_search(
    const ImageView *image, uint32_t number, const MethodAsked *method, const Target *t, RouteMatch *m
) noexcept nogil:
    m.route = NULL if number == IMAGE_NONE else root_search(image, image.route_hosts[number].root, method, t, m)
    return m.route != NULL


cdef bint route_find(const ImageView *image, Slice method, Slice host, const Target *t, RouteMatch *m) noexcept nogil:
    # The most specific route for a target that was read; False: there is none.
    cdef uint8_t name[HOST_MOST + 8]
    cdef uint32_t length = host_read(host, name)
    cdef MethodAsked asked = method_asked(method)
    cdef uint32_t i
    m.route = NULL
    m.capture_count = 0
    if length:
        if host_search(image, host_find(image, name, length), &asked, t, m):
            return True
        for i in range(1, length):
            if name[i] == 46 and host_search(image, host_find(image, name + i, length - i), &asked, t, m):
                return True
    return host_search(image, host_find(image, name, 0), &asked, t, m)
