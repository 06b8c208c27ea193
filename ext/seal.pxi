# SPDX-License-Identifier: Apache-2.0
# Seals and digests, through OpenSSL's libcrypto: what session tokens are opened with, tickets are sealed
# with, and what was revoked.

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_CIPHER_CTX:
        pass
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct EVP_MD:
        pass
    int EVP_CTRL_AEAD_SET_TAG
    EVP_CIPHER *EVP_CIPHER_fetch(void *library, const char *algorithm, const char *properties)
    void EVP_CIPHER_free(EVP_CIPHER *cipher)
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *context)
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *context, int what, int size, void *value)
    int EVP_DecryptInit_ex2(
        EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *nonce, const void *parameters
    )
    int EVP_CTRL_AEAD_GET_TAG
    int EVP_EncryptInit_ex2(
        EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t *nonce, const void *parameters
    )
    int EVP_EncryptUpdate(EVP_CIPHER_CTX *context, uint8_t *out, int *out_len, const uint8_t *data, int length)
    int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *context, uint8_t *out, int *out_len)
    int EVP_DecryptUpdate(EVP_CIPHER_CTX *context, uint8_t *out, int *out_len, const uint8_t *data, int length)
    int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *context, uint8_t *out, int *out_len)
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    void EVP_MD_free(EVP_MD *digest)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *context)
    int EVP_DigestInit_ex2(EVP_MD_CTX *context, const EVP_MD *digest, const void *parameters)
    int EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t length)
    int EVP_DigestFinal_ex(EVP_MD_CTX *context, uint8_t *out, unsigned int *out_len)

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_cleanse(void *data, size_t length)

cdef enum:
    SEAL_KEY_BYTES = 32
    DIGEST_BYTES = 32
    # A revocation: so much of a digest, then the moment in milliseconds.
    REVOCATION_DIGEST_BYTES = 16
    REVOCATION_BYTES = REVOCATION_DIGEST_BYTES + 8
    # What a revocation is of: the byte in front of what is digested.
    REVOKED_PRINCIPAL = 1
    REVOKED_LINEAGE = 2
    REVOKED_DEVICE = 3
    TOKEN_RAW_MOST = MAX_SESSION_TOKEN // 4 * 3
    TOKEN_RAW_LEAST = TOKEN_HEADER_BYTES + TOKEN_NONCE_BYTES + TOKEN_TAG_BYTES


cdef struct SealKey:
    uint8_t id[TOKEN_KEY_ID_BYTES]
    uint8_t key[SEAL_KEY_BYTES]


# What tokens are opened with. Immutable but for one field; shared by all threads. Belongs to a SessionState.
cdef struct SessionKeys:
    uint64_t number           # of this content: no two have the same, and none has 0
    uint64_t valid_until      # of the monotonic clock, in nanoseconds; may change at any time
    SealKey *keys             # owned
    uint32_t key_count
    uint8_t *revocations      # owned; REVOCATION_BYTES each, sorted
    uint32_t revocation_count


# Contexts of libcrypto, made ahead so that opening a token allocates nothing. Confined to one thread.
cdef struct Crypto:
    EVP_CIPHER_CTX *cipher    # owned; opens; NULL: they were not made yet
    EVP_CIPHER_CTX *sealer    # owned; seals
    EVP_MD_CTX *digest        # owned


cdef bint crypto_make(Crypto *crypto) noexcept nogil:
    cdef EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, b"AES-256-GCM", NULL)
    cdef EVP_MD *digest = EVP_MD_fetch(NULL, b"SHA2-256", NULL)
    cdef bint made = False
    crypto.cipher = EVP_CIPHER_CTX_new()
    crypto.sealer = EVP_CIPHER_CTX_new()
    crypto.digest = EVP_MD_CTX_new()
    if (
        cipher != NULL and digest != NULL
        and crypto.cipher != NULL and crypto.sealer != NULL and crypto.digest != NULL
    ):
        made = (
            EVP_DecryptInit_ex2(crypto.cipher, cipher, NULL, NULL, NULL) == 1
            and EVP_EncryptInit_ex2(crypto.sealer, cipher, NULL, NULL, NULL) == 1
            and EVP_DigestInit_ex2(crypto.digest, digest, NULL) == 1
        )
    # The contexts hold them from now on.
    EVP_CIPHER_free(cipher)
    EVP_MD_free(digest)
    if not made:
        crypto_clear(crypto)
    return made


cdef void crypto_clear(Crypto *crypto) noexcept nogil:
    EVP_CIPHER_CTX_free(crypto.cipher)
    EVP_CIPHER_CTX_free(crypto.sealer)
    EVP_MD_CTX_free(crypto.digest)
    crypto.cipher = NULL
    crypto.sealer = NULL
    crypto.digest = NULL


# Tokens in text.

cdef extern from *:
    """
    /* Of each byte: one more than what it stands for in base64url, 0: nothing. */
    static const uint8_t BASE64URL[256] = {
        ['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
        ['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
        ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
        ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
        ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
        ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
        ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
        ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64};
    """
    const uint8_t BASE64URL[256]


cdef uint32_t base64url_read(Slice text, uint8_t *out) noexcept nogil:
    # SPEC: RFC 4648, section 5, without padding. How many bytes stand in *out*, which has room for three for every four
    # characters begun; 0: it is no such text. Bits that carry nothing must be 0, so that each text is that of one token.
    cdef uint32_t left = text.len & 3
    cdef uint32_t whole = text.len - left
    cdef uint32_t length = 0
    cdef uint32_t i
    cdef uint32_t quad
    cdef uint8_t a
    cdef uint8_t b
    cdef uint8_t c
    cdef uint8_t d
    if left == 1:
        return 0
    for i in range(0, whole, 4):
        a = BASE64URL[text.data[i]]
        b = BASE64URL[text.data[i + 1]]
        c = BASE64URL[text.data[i + 2]]
        d = BASE64URL[text.data[i + 3]]
        if a == 0 or b == 0 or c == 0 or d == 0:
            return 0
        quad = <uint32_t>(a - 1) << 18 | <uint32_t>(b - 1) << 12 | <uint32_t>(c - 1) << 6 | <uint32_t>(d - 1)
        out[length] = <uint8_t>(quad >> 16)
        out[length + 1] = <uint8_t>(quad >> 8)
        out[length + 2] = <uint8_t>quad
        length += 3
    if left == 0:
        return length
    a = BASE64URL[text.data[whole]]
    b = BASE64URL[text.data[whole + 1]]
    c = BASE64URL[text.data[whole + 2]] if left == 3 else 1
    if a == 0 or b == 0 or c == 0:
        return 0
    quad = <uint32_t>(a - 1) << 18 | <uint32_t>(b - 1) << 12 | <uint32_t>(c - 1) << 6
    if quad & (0xFF if left == 3 else 0xFFFF):
        return 0
    out[length] = <uint8_t>(quad >> 16)
    if left == 3:
        out[length + 1] = <uint8_t>(quad >> 8)
    return length + left - 1


cdef const uint8_t *seal_key_find(const SessionKeys *keys, const uint8_t *id) noexcept nogil:
    cdef uint32_t i
    for i in range(keys.key_count):
        if memcmp(keys.keys[i].id, id, TOKEN_KEY_ID_BYTES) == 0:
            return keys.keys[i].key
    return NULL


cdef uint32_t seal_open(Crypto *crypto, const SessionKeys *keys, uint8_t *raw, uint32_t length) noexcept nogil:
    # Open, where it stands, a token that was read into *raw*. Length of its claims, which begin behind header and nonce
    # then; 0: it is none of ours. What stands in *raw* means nothing then.
    cdef const uint8_t *key
    cdef uint8_t *nonce = raw + TOKEN_HEADER_BYTES
    cdef uint8_t *claims = nonce + TOKEN_NONCE_BYTES
    cdef int sealed
    cdef int done = 0
    cdef int rest = 0
    if length <= TOKEN_RAW_LEAST or raw[0] != TOKEN_VERSION:
        return 0
    key = seal_key_find(keys, raw + 1)
    if key == NULL:
        return 0
    sealed = <int>(length - TOKEN_RAW_LEAST)
    # SAFETY: the cipher of the context was set when it was made; a key and a nonce of its sizes follow.
    if (
        EVP_DecryptInit_ex2(crypto.cipher, NULL, key, nonce, NULL) != 1
        or EVP_DecryptUpdate(crypto.cipher, NULL, &done, raw, TOKEN_HEADER_BYTES) != 1
        or EVP_DecryptUpdate(crypto.cipher, claims, &done, claims, sealed) != 1
        or done != sealed
        or EVP_CIPHER_CTX_ctrl(crypto.cipher, EVP_CTRL_AEAD_SET_TAG, TOKEN_TAG_BYTES, claims + sealed) != 1
        or EVP_DecryptFinal_ex(crypto.cipher, claims + done, &rest) != 1
        or rest != 0
    ):
        return 0
    return <uint32_t>sealed


# Revocations.

cdef bint revoked_before(
    Crypto *crypto, const SessionKeys *keys, uint8_t kind, Slice id, int64_t *moment
) noexcept nogil:
    # Whether something of this kind was revoked, and as it was before which moment, that one included. What cannot be
    # found out counts as revoked for all time.
    cdef uint8_t digest[DIGEST_BYTES]
    cdef uint32_t low = 0
    cdef uint32_t high = keys.revocation_count
    cdef uint32_t middle
    cdef const uint8_t *record
    cdef int order
    if high == 0 or id.len == 0:
        return False
    moment[0] = 0x7FFFFFFFFFFFFFFFLL
    if (
        EVP_DigestInit_ex2(crypto.digest, NULL, NULL) != 1
        or EVP_DigestUpdate(crypto.digest, &kind, 1) != 1
        or EVP_DigestUpdate(crypto.digest, id.data, id.len) != 1
        or EVP_DigestFinal_ex(crypto.digest, digest, NULL) != 1
    ):
        return True
    while low < high:
        middle = (low + high) >> 1
        record = keys.revocations + <size_t>middle * REVOCATION_BYTES
        order = memcmp(record, digest, REVOCATION_DIGEST_BYTES)
        if order == 0:
            memcpy(moment, record + REVOCATION_DIGEST_BYTES, 8)
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return False
