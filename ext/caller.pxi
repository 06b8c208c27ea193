# SPDX-License-Identifier: Apache-2.0
# Who calls: the first rule whose credential is there, and which maps it to somebody, decides.

cdef extern from "openssl/crypto.h" nogil:
    int CRYPTO_memcmp(const void *one, const void *other, size_t length)

cdef enum:
    DIGEST_HEX = 2 * DIGEST_BYTES
    # Of context extensions that say whose an API key is: `iam-api-key:` and the digest.
    KEY_EXTENSION = 12
    # Room for what of a template must be decoded or joined first; a header that is longer is used by nobody.
    SCRATCH_ROOM = MAX_TARGET


# What was found out. Slices point into the request, the image or *room*.
cdef struct CallerFound:
    uint32_t kind             # CALLER_SOURCE_*; CALLER_SOURCE_NONE: nobody
    Slice session_token       # as sent; whether it is any good turns out when it is opened
    Slice principal           # an ARN; empty: the anonymous caller
    bint has_jwt
    Slice jwt                 # a google.protobuf.Struct: that which says who calls, else the first one that is there
    uint8_t room[MAX_PRINCIPAL]
    uint8_t scratch[SCRATCH_ROOM]


# An API key that was digested, and of which header it is.
cdef struct ApiKey:
    Slice header
    bint is_there
    uint8_t digest[DIGEST_HEX]  # in hex
    Slice client              # whose it is by a context extension


# Session tokens.

cdef bint bearer_read(const Attributes *a, Slice *token) noexcept nogil:
    # Whether a header holds a bearer token that may be one of ours: a JWT, which has dots, is not.
    cdef Slice name = slice_literal(b"authorization", 13)
    cdef const Header *header = header_find(a, name)
    cdef uint8_t scheme[16]
    cdef Slice text
    if header == NULL or header.value.len < 8:
        return False
    text = header.value
    fold_ascii(text.data, 7, scheme)
    if memcmp(scheme, b"bearer ", 7) != 0:
        return False
    token[0] = slice_of(text.data + 7, text.len - 7)
    while token.len and token.data[0] == 32:
        token[0] = slice_of(token.data + 1, token.len - 1)
    if token.len == 0 or memchr(token.data, 46, token.len) != NULL:
        return False
    if header_count(a, name) != 1:
        # Whoever sends two is believed neither; with its scheme it opens nothing.
        token[0] = text
    return True


cdef bint cookie_read(const Attributes *a, Slice name, Slice *token) noexcept nogil:
    # Whether there is a cookie of this name. SPEC: RFC 6265, section 4.2.1.
    cdef Slice header_name = slice_literal(b"cookie", 6)
    cdef Slice rest
    cdef Slice pair
    cdef const uint8_t *end
    cdef uint32_t found = 0
    cdef uint32_t i
    if name.len == 0:
        return False
    for i in range(a.header_count):
        if not name_is(a.headers[i].name, header_name):
            continue
        rest = a.headers[i].value
        while rest.len:
            end = <const uint8_t *>memchr(rest.data, 59, rest.len)
            pair = slice_of(rest.data, rest.len if end == NULL else <uint32_t>(end - rest.data))
            rest = slice_of(rest.data + pair.len, rest.len - pair.len)
            if rest.len:
                rest = slice_of(rest.data + 1, rest.len - 1)
            while pair.len and (pair.data[0] == 32 or pair.data[0] == 9):
                pair = slice_of(pair.data + 1, pair.len - 1)
            if pair.len > name.len and pair.data[name.len] == 61 and memcmp(pair.data, name.data, name.len) == 0:
                found += 1
                # Of two, which somebody has slipped in, neither counts: with its name it opens nothing.
                token[0] = slice_of(pair.data + name.len + 1, pair.len - name.len - 1) if found == 1 else pair
    return found != 0 and token.len != 0


# Claims of a verified JWT.

cdef bint jwt_find(const ImageView *image, const CallerRule *rule, const Attributes *a, Slice *jwt) noexcept nogil:
    # The claims that a filter has put into its metadata.
    cdef Slice name = slice_of(image.strings + rule.name, rule.name_len)
    # SAFETY: an image without a NUL between filter and payload is not sound.
    cdef uint32_t filter_len = <uint32_t>(<const uint8_t *>memchr(name.data, 0, name.len) - name.data)
    cdef const Header *metadata = pair_find(a.filters, a.filter_count, slice_of(name.data, filter_len))
    cdef StructValue payload
    cdef Slice bytes
    if metadata == NULL:
        return False
    name = slice_of(name.data + filter_len + 1, name.len - filter_len - 1)
    if not struct_member(metadata.value, name, &bytes) or not value_read(bytes, &payload):
        return False
    jwt[0] = payload.bytes
    return payload.kind == STRUCT_IS_STRUCT


cdef bint text_is_one(const ImageView *image, uint32_t first, uint32_t count, Slice text) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if slice_equals(text, image.strings + image.route_texts[first + i].text, image.route_texts[first + i].len):
            return True
    return False


cdef bint claim_holds(const ImageView *image, const ClaimTest *test, Slice jwt, TextRoom *scratch) noexcept nogil:
    # Whether a claim, or a member of the list that it is, is one of the texts.
    cdef uint32_t kept = scratch.len
    cdef ValueCursor cursor
    cdef Slice value
    memset(&cursor, 0, sizeof(cursor))
    while True:
        scratch.len = kept
        if claim_next(
            jwt, slice_of(image.strings + test.claim, test.claim_len), &cursor, scratch, &value
        ) != VALUE_THERE:
            return False
        if text_is_one(image, test.texts, test.text_count, value):
            return True
        cursor.count += 1


cdef bint claims_hold(const ImageView *image, const CallerRule *rule, Slice jwt, TextRoom *scratch) noexcept nogil:
    cdef uint32_t i
    for i in range(rule.test_count):
        if not claim_holds(image, &image.claim_tests[rule.tests + i], jwt, scratch):
            return False
    return True


# Certificates.

cdef bint peer_match(const ImageView *image, const CallerRule *rule, Slice peer, Slice *captures) noexcept nogil:
    # Whether the name in a certificate is that of the rule; a name in braces takes what stands between two slashes, less
    # the fixed text behind it.
    cdef const RoutePiece *piece
    cdef const RoutePiece *behind
    cdef const uint8_t *slash
    cdef uint32_t size
    cdef uint32_t fixed
    cdef uint32_t i
    for i in range(rule.test_count):
        piece = &image.route_pieces[rule.tests + i]
        if piece.source == PIECE_TEXT:
            if peer.len < piece.len or memcmp(peer.data, image.strings + piece.text, piece.len) != 0:
                return False
            size = piece.len
        else:
            slash = <const uint8_t *>memchr(peer.data, 47, peer.len) if peer.len else NULL
            size = peer.len if slash == NULL else <uint32_t>(slash - peer.data)
            if i + 1 < rule.test_count:
                behind = piece + 1
                slash = <const uint8_t *>memchr(image.strings + behind.text, 47, behind.len)
                fixed = behind.len if slash == NULL else <uint32_t>(slash - (image.strings + behind.text))
                size = size - fixed if size > fixed else 0
            if size == 0:
                return False
            captures[piece.capture] = slice_of(peer.data, size)
        peer = slice_of(peer.data + size, peer.len - size)
    return peer.len == 0


# API keys.

cdef bint digest_equals(const uint8_t *digest, const uint8_t *text) noexcept nogil:
    # In a time that does not tell how much of it is right.
    return CRYPTO_memcmp(digest, text, DIGEST_HEX) == 0


cdef void key_client(const Attributes *a, ApiKey *key) noexcept nogil:
    # What a context extension `iam-api-key:DIGEST` says.
    cdef const Header *extension
    cdef uint8_t folded[DIGEST_HEX + 8]
    cdef uint32_t i
    for i in range(a.extension_count):
        extension = &a.extensions[i]
        if extension.name.len == KEY_EXTENSION + DIGEST_HEX and memcmp(extension.name.data, b"iam-api-key:", KEY_EXTENSION) == 0:
            fold_ascii(extension.name.data + KEY_EXTENSION, DIGEST_HEX, folded)
            if digest_equals(key.digest, folded):
                key.client = extension.value


cdef void key_read(Crypto *crypto, const Attributes *a, Slice header_name, ApiKey *key) noexcept nogil:
    # Digest the key in a header. One that cannot be digested is not there, nor is one that is sent twice.
    cdef const Header *header = header_find(a, header_name)
    cdef uint8_t digest[DIGEST_BYTES]
    cdef uint32_t i
    key.header = header_name
    key.is_there = False
    key.client = slice_of(NULL, 0)
    if header == NULL or header.value.len == 0 or header_count(a, header_name) != 1 or crypto == NULL or crypto.digest == NULL:
        return
    if (
        EVP_DigestInit_ex2(crypto.digest, NULL, NULL) != 1
        or EVP_DigestUpdate(crypto.digest, header.value.data, header.value.len) != 1
        or EVP_DigestFinal_ex(crypto.digest, digest, NULL) != 1
    ):
        return
    for i in range(DIGEST_BYTES):
        key.digest[2 * i] = <uint8_t>HEX_DIGITS[digest[i] >> 4]
        key.digest[2 * i + 1] = <uint8_t>HEX_DIGITS[digest[i] & 15]
    key.is_there = True
    key_client(a, key)


cdef const char *HEX_DIGITS = b"0123456789abcdef"


cdef bint key_is_of(const ImageView *image, const CallerRule *rule, const ApiKey *key) noexcept nogil:
    # Whether a key is one of a client: its digest stands in the rule, or a context extension names the client.
    cdef const RouteText *text = &image.route_texts[rule.texts]
    cdef bint found = key.client.len != 0 and slice_equals(key.client, image.strings + text.text, text.len)
    cdef uint32_t i
    for i in range(1, rule.text_count):
        # SAFETY: an image with a digest of another length is not sound.
        found |= digest_equals(key.digest, image.strings + text[i].text)
    return found


# Rules.

cdef bint principal_valid(Slice principal) noexcept nogil:
    # Whether what was put together names a user or the session of a role; what else is wrong with it is for others to say.
    cdef ArnText arn
    cdef const uint8_t *slash
    cdef Slice resource
    cdef uint32_t i
    if not arn_parse(principal.data, principal.len, &arn):
        return False
    resource = arn_field(&arn, 5)
    i = resource.len
    while i and resource.data[i - 1] != 47:
        i -= 1
    resource = slice_of(resource.data + i, resource.len - i)
    return session_name_valid(resource) or (slice_equals(arn_field(&arn, 2), b"iam", 3) and resource.len == 1)


cdef bint principal_write(const ValueSource *source, const CallerRule *rule, CallerFound *found) noexcept nogil:
    cdef TextRoom room
    cdef TextRoom scratch
    room.data = found.room
    room.len = 0
    room.most = MAX_PRINCIPAL
    scratch.data = found.scratch
    scratch.len = 0
    scratch.most = SCRATCH_ROOM
    found.principal = slice_of(found.room, 0)
    if rule.principal_count == 0:
        return True
    if template_write(
        source, rule.principal, rule.principal_count, &room, &scratch, &found.principal
    ) == VALUE_THERE and principal_valid(found.principal):
        return True
    found.principal = slice_of(found.room, 0)
    return False


cdef bint token_there(const CallerRule *rule, const Attributes *a, Slice cookie_name, Slice *token) noexcept nogil:
    return (rule.flags & CALLER_HEADER != 0 and bearer_read(a, token)) or (
        rule.flags & CALLER_COOKIE != 0 and cookie_read(a, cookie_name, token)
    )


cdef bint rule_identifies(
    const CallerRule *rule, ValueSource *source, Slice *captures, Crypto *crypto, ApiKey *key, CallerFound *found
) noexcept nogil:
    # Whether the credential of a rule is there and is somebody's.
    cdef const ImageView *image = source.image
    cdef const Attributes *a = source.attributes
    cdef TextRoom scratch
    cdef Slice name = slice_of(image.strings + rule.name, rule.name_len)
    scratch.data = found.scratch
    scratch.len = 0
    scratch.most = SCRATCH_ROOM
    source.has_jwt = False
    if rule.source == CALLER_SOURCE_JWT:
        if not jwt_find(image, rule, a, &source.jwt):
            return False
        source.has_jwt = True
        if not found.has_jwt:
            found.has_jwt = True
            found.jwt = source.jwt
        return claims_hold(image, rule, source.jwt, &scratch)
    if rule.source == CALLER_SOURCE_CERTIFICATE:
        return a.source_principal.len != 0 and peer_match(image, rule, a.source_principal, captures)
    if rule.source == CALLER_SOURCE_API_KEY:
        if key.header.data == NULL or not slice_equals(key.header, name.data, name.len):
            key_read(crypto, a, name, key)
        return key.is_there and key_is_of(image, rule, key)
    return rule.source == CALLER_SOURCE_ANONYMOUS


cdef void caller_identify(
    const ImageView *image, const Attributes *a, Slice cookie_name, Crypto *crypto, CallerFound *found
) noexcept nogil:
    # Who calls, by the rules of the image in their order. *crypto* digests API keys; NULL: nobody has one.
    cdef ValueSource source
    cdef ApiKey key
    cdef Slice captures[MAX_CAPTURES]
    cdef const CallerRule *rule
    cdef uint64_t i
    memset(&source, 0, sizeof(source))
    source.image = image
    source.attributes = a
    source.captures = captures
    key.header = slice_of(NULL, 0)
    found.kind = CALLER_SOURCE_NONE
    found.session_token = slice_of(NULL, 0)
    found.principal = slice_of(found.room, 0)
    found.has_jwt = False
    found.jwt = slice_of(NULL, 0)
    for i in range(image.counts[SECTION_CALLER_RULES]):
        rule = &image.caller_rules[i]
        if rule.source == CALLER_SOURCE_SESSION_TOKEN:
            if token_there(rule, a, cookie_name, &found.session_token):
                found.kind = rule.source
                break
        elif rule_identifies(rule, &source, captures, crypto, &key, found) and principal_write(&source, rule, found):
            found.kind = rule.source
            if rule.source == CALLER_SOURCE_JWT:
                found.jwt = source.jwt
            break
    if not found.has_jwt:
        jwt_remember(image, a, found)


cdef void jwt_remember(const ImageView *image, const Attributes *a, CallerFound *found) noexcept nogil:
    # The claims that routes may use where somebody else than a JWT says who calls.
    cdef uint64_t i
    for i in range(image.counts[SECTION_CALLER_RULES]):
        if image.caller_rules[i].source == CALLER_SOURCE_JWT and jwt_find(image, &image.caller_rules[i], a, &found.jwt):
            found.has_jwt = True
            return
