# SPDX-License-Identifier: Apache-2.0
# Step-up tickets, sealed. The form is that of sidecar.compile.step_up_ticket.

cdef extern from "openssl/rand.h" nogil:
    int RAND_bytes(uint8_t *out, int count)

cdef enum:
    TICKET_HEADER = 1 + TOKEN_KEY_ID_BYTES
    TICKET_CONTENT_MOST = 8 + TOKEN_ACCESS_KEY_ID_BYTES + 6 + 6 + MAX_ACTION + MAX_RESOURCE + TICKET_MAX_RETURN_ADDRESS
    TICKET_RAW_MOST = TICKET_HEADER + TOKEN_NONCE_BYTES + TICKET_CONTENT_MOST + TOKEN_TAG_BYTES
    TICKET_MOST = TICKET_RAW_MOST // 3 * 4 + 4


# What a ticket says. Confined to one call.
cdef struct Ticket:
    int64_t expires_at        # milliseconds since the epoch
    const uint8_t *access_key_id
    uint8_t flags             # TICKET_*
    uint8_t methods           # a bit for each MFA_*
    uint32_t max_age          # seconds
    Slice action
    Slice resource
    Slice return_address


cdef inline uint8_t *ticket_text(uint8_t *out, Slice text) noexcept nogil:
    cdef uint16_t length = <uint16_t>text.len
    memcpy(out, &length, 2)
    if length:
        memcpy(out + 2, text.data, length)
    return out + 2 + length


cdef uint32_t ticket_content(const Ticket *ticket, uint8_t *out) noexcept nogil:
    cdef uint8_t *end = out
    memcpy(end, &ticket.expires_at, 8)
    memcpy(end + 8, ticket.access_key_id, TOKEN_ACCESS_KEY_ID_BYTES)
    end += 8 + TOKEN_ACCESS_KEY_ID_BYTES
    end[0] = ticket.flags
    end[1] = ticket.methods
    memcpy(end + 2, &ticket.max_age, 4)
    end = ticket_text(end + 6, ticket.action)
    end = ticket_text(end, ticket.resource)
    end = ticket_text(end, ticket.return_address)
    return <uint32_t>(end - out)


cdef uint32_t ticket_seal(Crypto *crypto, const SessionKeys *keys, const Ticket *ticket, uint8_t *out) noexcept nogil:
    # Seal with the first of the keys, as base64url. Its length in *out*, which has room for TICKET_MOST; 0: it cannot be
    # sealed.
    cdef uint8_t raw[TICKET_RAW_MOST]
    cdef uint8_t *nonce = raw + TICKET_HEADER
    cdef uint8_t *content = nonce + TOKEN_NONCE_BYTES
    cdef int size
    cdef int done = 0
    cdef int rest = 0
    if (
        keys == NULL or crypto.sealer == NULL or keys.key_count == 0
        or ticket.action.len > MAX_ACTION or ticket.resource.len > MAX_RESOURCE
        or ticket.return_address.len > TICKET_MAX_RETURN_ADDRESS
    ):
        return 0
    raw[0] = TICKET_VERSION
    memcpy(raw + 1, keys.keys[0].id, TOKEN_KEY_ID_BYTES)
    size = <int>ticket_content(ticket, content)
    # SAFETY: the cipher of the context was set when it was made; a key and a nonce of its sizes follow. GCM ends where it
    # stands, so the tag follows the content.
    if (
        RAND_bytes(nonce, TOKEN_NONCE_BYTES) != 1
        or EVP_EncryptInit_ex2(crypto.sealer, NULL, keys.keys[0].key, nonce, NULL) != 1
        or EVP_EncryptUpdate(crypto.sealer, NULL, &done, raw, TICKET_HEADER) != 1
        or EVP_EncryptUpdate(crypto.sealer, content, &done, content, size) != 1
        or done != size
        or EVP_EncryptFinal_ex(crypto.sealer, content + done, &rest) != 1
        or rest != 0
        or EVP_CIPHER_CTX_ctrl(crypto.sealer, EVP_CTRL_AEAD_GET_TAG, TOKEN_TAG_BYTES, content + size) != 1
    ):
        return 0
    return base64_write(raw, TICKET_HEADER + TOKEN_NONCE_BYTES + <uint32_t>size + TOKEN_TAG_BYTES, BASE64_OF_URLS, out)
