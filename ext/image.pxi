# SPDX-License-Identifier: Apache-2.0
# Where everything stands in an image that was proved sound, and what its tables hold.

cdef enum:
    IMAGE_NONE = 0xFFFFFFFF
    IMAGE_MAX_BYTES = 0x7FFFFFFF
    HUGE_PAGE = 1 << 21
    # Length of `aws:principaltag/`, with which the names of such keys begin.
    TAG_PREFIX = 17


# Where everything in an image stands. Immutable once bound; shared by all threads.
cdef struct ImageView:
    const uint8_t *base
    const ImageHeader *header
    uint64_t size
    uint64_t counts[SECTION_COUNT]
    uint32_t principal_mask
    uint32_t account_mask
    uint32_t service_mask
    uint32_t action_mask
    uint32_t key_mask
    uint32_t resource_policy_mask
    uint32_t wildcard_policy_mask
    uint32_t role_trust_mask
    uint32_t route_host_mask
    uint32_t route_edge_mask
    # Services whose actions or resources have rules of their own.
    uint32_t iam_service
    uint32_t sts_service
    uint32_t kms_service
    uint8_t revision[64]  # SHA-256 of the image in hex
    const uint8_t *strings
    const Principal *principals
    const uint32_t *principal_table
    const Account *accounts
    const uint32_t *account_table
    const uint32_t *levels
    const uint32_t *sets
    const Rule *rules
    const Service *services
    const uint32_t *service_table
    const Action *actions
    const uint32_t *action_table
    const ActionSet *action_sets
    const uint64_t *action_words
    const WideSet *wide_sets
    const WideService *wide_services
    const ResourceSet *resource_sets
    const Pattern *patterns
    const Piece *pieces
    const Block *blocks
    const Test *tests
    const Instant *instants
    const Network *networks
    const Key *keys
    const uint32_t *key_table
    const Tag *tags
    const PrincipalEntry *principal_entries
    const ResourcePolicy *resource_policies
    const uint32_t *resource_policy_table
    const ResourcePolicy *wildcard_policies
    const uint32_t *wildcard_policy_table
    const uint32_t *wildcard_lengths
    const RoleTrust *role_trusts
    const uint32_t *role_trust_table
    const PolicyName *policy_names
    const StatementName *statement_names
    const uint32_t *session_sets
    const AccountDetails *account_details
    const RouteSettings *route_settings
    const RouteHost *route_hosts
    const uint32_t *route_host_table
    const RouteNode *route_nodes
    const RouteEdge *route_edges
    const uint32_t *route_edge_table
    const RouteMixed *route_mixed
    const RouteLeaf *route_leaves
    const RouteRecord *routes
    const RoutePiece *route_pieces
    const RouteContext *route_context
    const RouteText *route_texts
    const CallerRule *caller_rules
    const ClaimTest *claim_tests
    const ShadowRecord *shadow_entries
    # The same with what stands in shadow, until the first of its entries ends; NULL: nothing does. Owned by the image.
    const ImageView *shadow


cdef inline uint32_t table_find_hashed(
    const ImageView *image,
    const uint32_t *slots,
    uint32_t mask,
    const void *records,
    uint32_t stride,
    const uint8_t *text,
    uint32_t length,
    uint32_t hashed,
) noexcept nogil:
    # The record whose text is exactly this, or IMAGE_NONE. Records of tables begin with offset and length.
    cdef uint32_t slot = hashed & mask
    cdef uint32_t number
    cdef const uint32_t *record
    while True:
        number = slots[slot]
        if number == 0:
            return IMAGE_NONE
        record = <const uint32_t *>(<const uint8_t *>records + <size_t>(number - 1) * stride)
        if record[1] == length and memcmp(image.strings + record[0], text, length) == 0:
            return number - 1
        slot = (slot + 1) & mask


cdef inline uint32_t table_find(
    const ImageView *image,
    const uint32_t *slots,
    uint32_t mask,
    const void *records,
    uint32_t stride,
    const uint8_t *text,
    uint32_t length,
) noexcept nogil:
    return table_find_hashed(image, slots, mask, records, stride, text, length, hash_text(text, length))


cdef void view_point(ImageView *view, const uint8_t **place) noexcept nogil:
    # Point at every section, of which *place* says where it stands and view.counts how many records it has.
    view.strings = <const uint8_t *>place[SECTION_STRINGS]
    view.principals = <const Principal *>place[SECTION_PRINCIPALS]
    view.principal_table = <const uint32_t *>place[SECTION_PRINCIPAL_TABLE]
    view.accounts = <const Account *>place[SECTION_ACCOUNTS]
    view.account_table = <const uint32_t *>place[SECTION_ACCOUNT_TABLE]
    view.levels = <const uint32_t *>place[SECTION_LEVELS]
    view.sets = <const uint32_t *>place[SECTION_SETS]
    view.rules = <const Rule *>place[SECTION_RULES]
    view.services = <const Service *>place[SECTION_SERVICES]
    view.service_table = <const uint32_t *>place[SECTION_SERVICE_TABLE]
    view.actions = <const Action *>place[SECTION_ACTIONS]
    view.action_table = <const uint32_t *>place[SECTION_ACTION_TABLE]
    view.action_sets = <const ActionSet *>place[SECTION_ACTION_SETS]
    view.action_words = <const uint64_t *>place[SECTION_ACTION_WORDS]
    view.wide_sets = <const WideSet *>place[SECTION_WIDE_SETS]
    view.wide_services = <const WideService *>place[SECTION_WIDE_SERVICES]
    view.resource_sets = <const ResourceSet *>place[SECTION_RESOURCE_SETS]
    view.patterns = <const Pattern *>place[SECTION_PATTERNS]
    view.pieces = <const Piece *>place[SECTION_PIECES]
    view.blocks = <const Block *>place[SECTION_BLOCKS]
    view.tests = <const Test *>place[SECTION_TESTS]
    view.instants = <const Instant *>place[SECTION_INSTANTS]
    view.networks = <const Network *>place[SECTION_NETWORKS]
    view.keys = <const Key *>place[SECTION_KEYS]
    view.key_table = <const uint32_t *>place[SECTION_KEY_TABLE]
    view.tags = <const Tag *>place[SECTION_TAGS]
    view.principal_entries = <const PrincipalEntry *>place[SECTION_PRINCIPAL_ENTRIES]
    view.resource_policies = <const ResourcePolicy *>place[SECTION_RESOURCE_POLICIES]
    view.resource_policy_table = <const uint32_t *>place[SECTION_RESOURCE_POLICY_TABLE]
    view.wildcard_policies = <const ResourcePolicy *>place[SECTION_WILDCARD_POLICIES]
    view.wildcard_policy_table = <const uint32_t *>place[SECTION_WILDCARD_POLICY_TABLE]
    view.wildcard_lengths = <const uint32_t *>place[SECTION_WILDCARD_LENGTHS]
    view.role_trusts = <const RoleTrust *>place[SECTION_ROLE_TRUSTS]
    view.role_trust_table = <const uint32_t *>place[SECTION_ROLE_TRUST_TABLE]
    view.policy_names = <const PolicyName *>place[SECTION_POLICY_NAMES]
    view.statement_names = <const StatementName *>place[SECTION_STATEMENT_NAMES]
    view.session_sets = <const uint32_t *>place[SECTION_SESSION_SETS]
    view.account_details = <const AccountDetails *>place[SECTION_ACCOUNT_DETAILS]
    view.route_settings = <const RouteSettings *>place[SECTION_ROUTE_SETTINGS]
    view.route_hosts = <const RouteHost *>place[SECTION_ROUTE_HOSTS]
    view.route_host_table = <const uint32_t *>place[SECTION_ROUTE_HOST_TABLE]
    view.route_nodes = <const RouteNode *>place[SECTION_ROUTE_NODES]
    view.route_edges = <const RouteEdge *>place[SECTION_ROUTE_EDGES]
    view.route_edge_table = <const uint32_t *>place[SECTION_ROUTE_EDGE_TABLE]
    view.route_mixed = <const RouteMixed *>place[SECTION_ROUTE_MIXED]
    view.route_leaves = <const RouteLeaf *>place[SECTION_ROUTE_LEAVES]
    view.routes = <const RouteRecord *>place[SECTION_ROUTES]
    view.route_pieces = <const RoutePiece *>place[SECTION_ROUTE_PIECES]
    view.route_context = <const RouteContext *>place[SECTION_ROUTE_CONTEXT]
    view.route_texts = <const RouteText *>place[SECTION_ROUTE_TEXTS]
    view.caller_rules = <const CallerRule *>place[SECTION_CALLER_RULES]
    view.claim_tests = <const ClaimTest *>place[SECTION_CLAIM_TESTS]
    view.shadow_entries = <const ShadowRecord *>place[SECTION_SHADOW]
    view.principal_mask = <uint32_t>view.counts[SECTION_PRINCIPAL_TABLE] - 1
    view.account_mask = <uint32_t>view.counts[SECTION_ACCOUNT_TABLE] - 1
    view.service_mask = <uint32_t>view.counts[SECTION_SERVICE_TABLE] - 1
    view.action_mask = <uint32_t>view.counts[SECTION_ACTION_TABLE] - 1
    view.key_mask = <uint32_t>view.counts[SECTION_KEY_TABLE] - 1
    view.resource_policy_mask = <uint32_t>view.counts[SECTION_RESOURCE_POLICY_TABLE] - 1
    view.wildcard_policy_mask = <uint32_t>view.counts[SECTION_WILDCARD_POLICY_TABLE] - 1
    view.role_trust_mask = <uint32_t>view.counts[SECTION_ROLE_TRUST_TABLE] - 1
    view.route_host_mask = <uint32_t>view.counts[SECTION_ROUTE_HOST_TABLE] - 1
    view.route_edge_mask = <uint32_t>view.counts[SECTION_ROUTE_EDGE_TABLE] - 1


cdef void image_bind(ImageView *view, const uint8_t *base, uint64_t size) noexcept nogil:
    # Point into an image whose section table was checked.
    cdef const ImageSection *sections = <const ImageSection *>(base + sizeof(ImageHeader))
    cdef const uint8_t *place[SECTION_COUNT]
    cdef uint32_t i
    view.base = base
    view.size = size
    view.shadow = NULL
    view.header = <const ImageHeader *>base
    for i in range(SECTION_COUNT):
        view.counts[i] = sections[i].count
        place[i] = base + sections[i].offset
    view_point(view, place)


cdef inline uint32_t service_find(const ImageView *image, const uint8_t *text, uint32_t length) noexcept nogil:
    return table_find(image, image.service_table, image.service_mask, image.services, sizeof(Service), text, length)
