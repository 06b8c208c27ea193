# SPDX-License-Identifier: Apache-2.0
# One question as the caller sent it, checked, its context keys bound to those of an image.

from libc.string cimport strlen, strncmp


cdef enum:
    KEY_SLOTS = 64
    # More than there are entries.
    SLOT_SHARED = 255


# One context key. Slices point into the request's buffer.
cdef struct ContextEntry:
    Slice name
    uint32_t name_hash    # of the folded name
    uint32_t key          # number in the image; IMAGE_NONE: no policy asks for it
    uint32_t first        # of its values
    uint32_t count
    uint8_t multivalued
    uint8_t overriding    # wins over every other source, reserved keys included
    uint8_t is_null
    uint8_t is_list


# Confined to one call. Nothing in it is owned.
cdef struct Request:
    Slice principal
    Slice action
    Slice resource
    Slice resource_account
    bint has_session_token
    Slice session_token
    uint32_t token_fields # how many fields held one
    bint simulation       # a federated user may be named
    uint32_t entry_count
    uint32_t override_count
    uint32_t value_count
    uint8_t slots[KEY_SLOTS]  # by key modulo KEY_SLOTS: 1 + number of an entry of that slot, SLOT_SHARED: of several
    ContextEntry entries[MAX_CONTEXT_KEYS * 2]
    Slice values[MAX_CONTEXT_VALUES]


# What is wrong with a request. field NULL: nothing.
cdef struct Fault:
    const char *field
    const char *message
    Slice key             # of a context entry
    uint32_t index        # of the request in a batch


cdef inline bint fault_set(Fault *fault, const char *field, const char *message) noexcept nogil:
    # Always false, so that a check can return it.
    fault.field = field
    fault.message = message
    return False


cdef inline void fault_clear(Fault *fault) noexcept nogil:
    fault.field = NULL
    fault.message = NULL
    fault.key = slice_of(NULL, 0)
    fault.index = 0


cdef inline void request_clear(Request *request) noexcept nogil:
    # Only what is read before it is written.
    request.principal = slice_of(NULL, 0)
    request.action = slice_of(NULL, 0)
    request.resource = slice_of(NULL, 0)
    request.resource_account = slice_of(NULL, 0)
    request.has_session_token = False
    request.session_token = slice_of(NULL, 0)
    request.token_fields = 0
    request.simulation = False
    request.entry_count = 0
    request.override_count = 0
    request.value_count = 0


cdef bint key_is_reserved(const uint8_t *folded, uint32_t length) noexcept nogil:
    # Whether only the sidecar may set this key; the lists come from sidecar.model.request.
    cdef uint32_t i
    cdef size_t size
    if folded[0] != 97 and folded[0] != 115:
        return False
    for i in range(RESERVED_PREFIXES_COUNT):
        size = strlen(RESERVED_PREFIXES[i])
        if size <= length and memcmp(RESERVED_PREFIXES[i], folded, size) == 0:
            return True
    for i in range(RESERVED_KEYS_COUNT):
        if strlen(RESERVED_KEYS[i]) == length and memcmp(RESERVED_KEYS[i], folded, length) == 0:
            return True
    return False


cdef inline void slot_note(Request *request, uint32_t number) noexcept nogil:
    # Have the entry of this number found by its key.
    cdef uint32_t i = request.entries[number].key & (KEY_SLOTS - 1)
    if request.entries[number].key != IMAGE_NONE:
        request.slots[i] = <uint8_t>(number + 1) if request.slots[i] == 0 and number < SLOT_SHARED - 1 else SLOT_SHARED


cdef bint entry_bind(const ImageView *image, Request *request, uint32_t number, Fault *fault) noexcept nogil:
    cdef ContextEntry *entry = &request.entries[number]
    cdef const char *where = b"override" if entry.overriding else b"context"
    cdef uint8_t folded[MAX_CONTEXT_KEY + 8]
    cdef uint32_t i
    cdef bint reserved
    cdef Slice *value
    fault.key = entry.name
    if entry.name.len == 0:
        return fault_set(fault, where, b"a context key is empty")
    if entry.name.len > MAX_CONTEXT_KEY:
        return fault_set(fault, where, b"a context key is too long")
    fold_text(entry.name.data, entry.name.len, folded)
    entry.name_hash = hash_text(folded, entry.name.len)
    entry.key = table_find_hashed(
        image, image.key_table, image.key_mask, image.keys, sizeof(Key), folded, entry.name.len, entry.name_hash
    )
    if not entry.overriding:
        # The image knows of its own keys which are reserved.
        if entry.key != IMAGE_NONE:
            reserved = image.keys[entry.key].source != SOURCE_CONTEXT
        else:
            reserved = key_is_reserved(folded, entry.name.len)
        if reserved:
            return fault_set(fault, where, b"the key is set by the sidecar alone")
    for i in range(number):
        if (
            request.entries[i].name_hash == entry.name_hash
            and request.entries[i].overriding == entry.overriding
            and request.entries[i].name.len == entry.name.len
            and equals_folded(request.entries[i].name.data, entry.name.data, entry.name.len)
        ):
            return fault_set(fault, where, b"the key is given twice; keys are compared without case")
    entry.is_null = True
    entry.is_list = entry.multivalued or entry.count != 1
    for i in range(entry.count):
        value = &request.values[entry.first + i]
        if value.len > MAX_CONTEXT_VALUE:
            return fault_set(fault, where, b"a value of the key is too long")
        if value.len:
            entry.is_null = False
    slot_note(request, number)
    return True


cdef void request_bind_again(const Request *source, const ImageView *image, Request *request) noexcept nogil:
    # The same request, checked before, bound to another image.
    cdef uint8_t folded[MAX_CONTEXT_KEY + 8]
    cdef ContextEntry *entry
    cdef uint32_t i
    request.entry_count = source.entry_count
    request.override_count = source.override_count
    request.value_count = source.value_count
    memcpy(request.entries, source.entries, source.entry_count * sizeof(ContextEntry))
    memcpy(request.values, source.values, source.value_count * sizeof(Slice))
    memset(request.slots, 0, sizeof(request.slots))
    for i in range(request.entry_count):
        entry = &request.entries[i]
        fold_text(entry.name.data, entry.name.len, folded)
        entry.key = table_find_hashed(
            image, image.key_table, image.key_mask, image.keys, sizeof(Key), folded, entry.name.len, entry.name_hash
        )
        slot_note(request, i)


cdef extern from *:
    """
    /* Of each byte: 1, it may stand in the name of a service; 2, in that of an action. */
    static const uint8_t ACTION_BYTES[256] = {
        ['-'] = 3, ['_'] = 2, ['.'] = 2, ['0' ... '9'] = 3, ['A' ... 'Z'] = 3, ['a' ... 'z'] = 3};
    """
    const uint8_t ACTION_BYTES[256]


cdef bint action_valid(const Slice *action) noexcept nogil:
    # `service:Name`, without wildcards.
    cdef const uint8_t *colon = <const uint8_t *>memchr(action.data, 58, action.len) if action.len else NULL
    cdef uint8_t service = 1
    cdef uint8_t name = 2
    cdef uint32_t place
    cdef uint32_t i
    if colon == NULL:
        return False
    place = <uint32_t>(colon - action.data)
    for i in range(place):
        service &= ACTION_BYTES[action.data[i]]
    for i in range(place + 1, action.len):
        name &= ACTION_BYTES[action.data[i]]
    return service != 0 and name != 0 and place != 0 and place + 1 < action.len


cdef bint account_valid(const Slice *account) noexcept nogil:
    cdef uint32_t i
    if account.len != 12:
        return False
    for i in range(12):
        if account.data[i] < 48 or account.data[i] > 57:
            return False
    return True


cdef bint session_name_valid(Slice name) noexcept nogil:
    # SPEC: STS AssumeRole, RoleSessionName: [\w+=,.@-]{2,64}.
    cdef uint32_t i
    cdef uint8_t c
    if name.len < 2 or name.len > 64:
        return False
    for i in range(name.len):
        c = name.data[i]
        if not (97 <= c | 32 <= 122 or 48 <= c <= 57 or c == 95 or c == 43 or c == 61 or c == 44 or c == 46 or c == 64 or c == 45):
            return False
    return True


cdef bint request_check(const Request *request, Fault *fault) noexcept nogil:
    # The parts that need neither policy nor context.
    if request.principal.len > MAX_PRINCIPAL:
        return fault_set(fault, b"principal", b"it is too long")
    if request.action.len > MAX_ACTION or not action_valid(&request.action):
        return fault_set(fault, b"action", b"it is not of the form `service:Action`")
    if request.resource.len > MAX_RESOURCE:
        return fault_set(fault, b"resource", b"it is too long")
    if request.resource_account.len and not account_valid(&request.resource_account):
        return fault_set(fault, b"resource_account", b"it is not an account id of twelve digits")
    return True
