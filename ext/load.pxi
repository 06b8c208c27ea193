# SPDX-License-Identifier: Apache-2.0
# Loading an image: copied into memory that nobody can change any more, and proved sound.

cdef extern from *:
    """
    #include <errno.h>
    #include <sys/mman.h>
    #include <unistd.h>
    #ifndef MADV_HUGEPAGE
    #define MADV_HUGEPAGE 14
    #endif
    #ifndef MADV_NOHUGEPAGE
    #define MADV_NOHUGEPAGE 15
    #endif
    """
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MADV_HUGEPAGE, MADV_NOHUGEPAGE, EINTR
    void *MAP_FAILED
    int errno
    ssize_t read(int fd, void *data, size_t count) nogil
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset) nogil
    int munmap(void *address, size_t length) nogil
    int mprotect(void *address, size_t length, int protection) nogil
    int madvise(void *address, size_t length, int advice) nogil

from libc.stdlib cimport calloc, free, malloc

from zlib import crc32
from hashlib import sha256

from sidecar.model.directory import AccountFacts, RoleFacts, UserFacts
from sidecar.model.errors import ImageError
from sidecar.model.shadow import ShadowEntry, ShadowKind
from sidecar.model.snapshot import PasswordPolicy


# Memory of an image: private to this process and read-only once filled, so that no other process
# can truncate or change it, as one could a mapped file. Large ones stand in huge pages: decisions
# jump about in an image, and with small pages most of their time went into address translation.
cdef struct ImageMemory:
    void *start           # of the mapping
    uint64_t mapped       # bytes of it
    uint8_t *data         # of the image inside


cdef bint memory_take(ImageMemory *memory, uint64_t size) noexcept nogil:
    cdef uint64_t alignment = HUGE_PAGE if size >= HUGE_PAGE // 2 else IMAGE_ALIGNMENT
    cdef uint64_t rounded = (size + alignment - 1) // alignment * alignment
    memory.mapped = rounded + (alignment if alignment == HUGE_PAGE else 0)
    memory.start = mmap(NULL, memory.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if memory.start == MAP_FAILED:
        memory.start = NULL
        return False
    memory.data = <uint8_t *>((<size_t>memory.start + alignment - 1) // alignment * alignment)
    if alignment == HUGE_PAGE:
        # Without huge pages the image is slower and as right.
        madvise(memory.data, rounded, MADV_HUGEPAGE)
    return True


cdef bint memory_fill(ImageMemory *memory, int source, const uint8_t *data, uint64_t size) noexcept nogil:
    # Fill from the open file *source* when it is not -1, else from *data*; then close the memory to writing.
    cdef uint64_t done = 0
    cdef ssize_t got
    if source < 0:
        memcpy(memory.data, data, size)
        done = size
    while done < size:
        got = read(source, memory.data + done, size - done)
        if got < 0 and errno == EINTR:
            continue
        if got <= 0:
            return False
        done += got
    return mprotect(memory.start, memory.mapped, PROT_READ) == 0


cdef void *pages_take(uint64_t size) noexcept nogil:
    # Memory that is zero and is not there before it is touched, page by page; NULL: there is none.
    cdef void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if pages == MAP_FAILED:
        return NULL
    madvise(pages, size, MADV_NOHUGEPAGE)
    return pages


cdef void pages_drop(void *pages, uint64_t size) noexcept nogil:
    if pages != NULL:
        munmap(pages, size)


cdef str image_str(const ImageView *image, uint32_t offset, uint32_t length):
    return (<const char *>image.strings)[offset:offset + length].decode("utf-8", "replace")


cdef uint32_t principal_find(const ImageView *image, bytes key) except? 0:
    # The principal that the image knows by *key*, or IMAGE_NONE.
    return table_find(
        image, image.principal_table, image.principal_mask, image.principals, sizeof(Principal),
        <const uint8_t *><const char *>key, <uint32_t>min(<size_t>len(key), <size_t>IMAGE_NONE),
    )


cdef dict principal_tags(const ImageView *image, const Principal *principal):
    # By key in lower case, without the beginning of the condition key.
    cdef const Tag *tag
    cdef const Key *key
    cdef uint32_t i
    tags = {}
    for i in range(principal.tag_count):
        tag = &image.tags[principal.tags + i]
        key = &image.keys[tag.key]
        name = image_str(image, key.name, key.name_len)
        tags[name.removeprefix("aws:principaltag/")] = image_str(image, tag.text, tag.len)
    return tags


cdef object password_policy(const AccountDetails *facts):
    if facts.flags & PASSWORD_POLICY == 0:
        return None
    return PasswordPolicy(
        minimum_password_length=facts.minimum_length,
        require_symbols=bool(facts.flags & PASSWORD_SYMBOLS),
        require_numbers=bool(facts.flags & PASSWORD_NUMBERS),
        require_uppercase_characters=bool(facts.flags & PASSWORD_UPPERCASE),
        require_lowercase_characters=bool(facts.flags & PASSWORD_LOWERCASE),
        allow_users_to_change_password=bool(facts.flags & PASSWORD_OWN_CHANGE),
        max_password_age=facts.max_age or None,
        password_reuse_prevention=facts.reuse_prevention or None,
        hard_expiry=bool(facts.flags & PASSWORD_HARD_EXPIRY),
    )


cdef inline const uint8_t *shadow_start(const ImageView *view) noexcept nogil:
    return view.base + (<const ImageSection *>(view.base + sizeof(ImageHeader)))[SECTION_SHADOW_IMAGE].offset


cdef class Image:
    """
    A compiled snapshot in memory, proved sound and never changed again.

    Make one with `from_bytes` or `from_fd`.

    Thread-safety: immutable; any number of threads may decide from it at once.
    """

    cdef ImageView view
    cdef ImageView shadow_view  # of the image in its section SHADOW_IMAGE, if it has one
    cdef ImageMemory memory
    cdef readonly str revision
    cdef readonly tuple shadow_entries
    cdef readonly dict statistics

    def __cinit__(self):
        self.memory.start = NULL

    def __init__(self):
        raise TypeError("make an image with Image.from_bytes or Image.from_fd")

    def __dealloc__(self):
        if self.memory.start != NULL:
            munmap(self.memory.start, self.memory.mapped)

    @staticmethod
    def from_bytes(data):
        """
        Return the image that *data* holds; the bytes are copied.

        Raises:
            ImageError: The bytes are no image of this format, or one that is damaged.
        """
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        if view.shape[0] == 0:
            raise ImageError("the image cannot be used: it is empty")
        return image_open(-1, &view[0], view.shape[0])

    @staticmethod
    def from_fd(int fd, uint64_t size):
        """
        Return the image of *size* bytes that stands in the open file *fd*; the file is copied.

        Raises:
            ImageError: The file holds no image of this format, or one that is damaged.
        """
        if fd < 0:
            raise ImageError(f"the image cannot be used: {fd} is no open file")
        if size == 0 or size > IMAGE_MAX_BYTES:
            raise ImageError(f"the image cannot be used: {size} bytes are not 1 to {IMAGE_MAX_BYTES}")
        return image_open(fd, NULL, size)

    def with_shadow_in_force(self):
        """
        Return the image that is in force once every entry in shadow has ended, as one of its own.

        Raises:
            ValueError: Nothing stands in shadow.
        """
        if self.view.shadow == NULL:
            raise ValueError("nothing in the image stands in shadow")
        return image_open(-1, shadow_start(&self.view), self.view.counts[SECTION_SHADOW_IMAGE])

    def find_user(self, str arn):
        """Return what the snapshot says of the user with this ARN, path included, as `UserFacts`; None: it has none."""
        cdef uint32_t number = principal_find(&self.view, arn.encode("utf-8", "surrogatepass"))
        cdef const Principal *user
        cdef const Account *account
        if number == IMAGE_NONE or self.view.principals[number].kind != CALLER_USER:
            return None
        user = &self.view.principals[number]
        account = &self.view.accounts[user.account]
        return UserFacts(
            arn=image_str(&self.view, user.arn, user.arn_len),
            account=image_str(&self.view, account.id, account.id_len),
            name=image_str(&self.view, user.name, user.name_len),
            user_id=image_str(&self.view, user.unique_id, user.unique_id_len),
            tags=principal_tags(&self.view, user),
        )

    def find_role(self, str arn):
        """Return what the snapshot says of the role with this ARN, path included, as `RoleFacts`; None: it has none."""
        cdef bytes text = arn.encode("utf-8", "surrogatepass")
        cdef uint32_t number = table_find(
            &self.view, self.view.role_trust_table, self.view.role_trust_mask, self.view.role_trusts, sizeof(RoleTrust),
            <const uint8_t *><const char *>text, <uint32_t>min(<size_t>len(text), <size_t>IMAGE_NONE),
        )
        cdef const RoleTrust *trust
        cdef const Principal *role
        cdef const Account *account
        if number == IMAGE_NONE:
            return None
        trust = &self.view.role_trusts[number]
        role = &self.view.principals[trust.principal]
        account = &self.view.accounts[role.account]
        return RoleFacts(
            arn=image_str(&self.view, trust.arn, trust.arn_len),
            principal=image_str(&self.view, role.key, role.key_len),
            account=image_str(&self.view, account.id, account.id_len),
            name=image_str(&self.view, role.name, role.name_len),
            role_id=image_str(&self.view, role.unique_id, role.unique_id_len),
            max_session_duration=trust.max_session_duration,
            is_service_linked=bool(role.flags & PRINCIPAL_SERVICE_LINKED),
            tags=principal_tags(&self.view, role),
        )

    def find_account(self, str id_or_alias):
        """Return what the snapshot says of the account with this id or alias, as `AccountFacts`; None: it has no dump of it."""
        cdef bytes text = id_or_alias.encode("utf-8", "surrogatepass")
        cdef Slice wanted = slice_of(
            <const uint8_t *><const char *>text, <uint32_t>min(<size_t>len(text), <size_t>IMAGE_NONE)
        )
        cdef const Account *account
        cdef const AccountDetails *facts
        cdef uint64_t i
        for i in range(self.view.counts[SECTION_ACCOUNTS] if wanted.len else 0):
            account = &self.view.accounts[i]
            facts = &self.view.account_details[i]
            if account.flags & ACCOUNT_KNOWN and (
                slice_equals(wanted, self.view.strings + account.id, account.id_len)
                or slice_equals(wanted, self.view.strings + facts.alias, facts.alias_len)
            ):
                return AccountFacts(
                    id=image_str(&self.view, account.id, account.id_len),
                    alias=image_str(&self.view, facts.alias, facts.alias_len),
                    partition=image_str(&self.view, account.partition, account.partition_len),
                    password_policy=password_policy(facts),
                )
        return None


cdef object view_prove(ImageView *view, const uint8_t *base, uint64_t size, str what):
    # Point *view* at the image of *size* bytes at *base*, once it is proved sound. *what*: the words for it in an error.
    cdef const char *wrong
    cdef uint8_t *begins
    cdef uint8_t *entered
    view.size = size
    with nogil:
        wrong = sections_unsound(base, size)
    if wrong != NULL:
        raise ImageError(f"{what} cannot be used: {wrong.decode()}", help="compile it again with this version")
    whole = <const uint8_t[:size]>base
    if crc32(whole[sizeof(ImageHeader):]) != (<const ImageHeader *>base).checksum:
        raise ImageError(f"{what} cannot be used: its checksum does not match", help="it was damaged; compile it again")
    image_bind(view, base, size)
    begins = <uint8_t *>calloc(view.counts[SECTION_SETS] // SET_ALIGNMENT + 1, 1)
    entered = <uint8_t *>calloc(view.counts[SECTION_ROUTE_NODES] + 1, 1)
    if begins == NULL or entered == NULL:
        free(begins)
        free(entered)
        raise MemoryError
    with nogil:
        wrong = image_unsound(view, begins)
        if wrong == NULL:
            wrong = routes_unsound(view, entered)
        free(begins)
        free(entered)
    if wrong != NULL:
        raise ImageError(f"{what} cannot be used: {wrong.decode()}", help="compile it again with this version")
    view.iam_service = service_find(view, b"iam", 3)
    view.sts_service = service_find(view, b"sts", 3)
    view.kms_service = service_find(view, b"kms", 3)


cdef tuple shadow_list(const ImageView *view):
    cdef uint64_t i
    return tuple(
        [
            ShadowEntry(
                ShadowKind(view.shadow_entries[i].kind),
                image_str(view, view.shadow_entries[i].id, view.shadow_entries[i].id_len),
                view.shadow_entries[i].until,
            )
            for i in range(view.counts[SECTION_SHADOW])
        ]
    )


cdef Image image_open(int source, const uint8_t *data, uint64_t size):
    cdef Image image = Image.__new__(Image)
    cdef const uint8_t *base
    cdef bint filled
    if not memory_take(&image.memory, size):
        raise ImageError(f"the image cannot be used: no memory for {size} bytes")
    with nogil:
        filled = memory_fill(&image.memory, source, data, size)
    if not filled:
        raise ImageError("the image cannot be used: it could not be read to its end")
    base = image.memory.data
    view_prove(&image.view, base, size, "the image")
    revision = sha256(<const uint8_t[:size]>base).hexdigest()
    hexadecimal = revision.encode()
    memcpy(image.view.revision, <const char *>hexadecimal, 64)
    image.revision = revision
    image.shadow_entries = shadow_list(&image.view)
    if image.view.counts[SECTION_SHADOW]:
        view_prove(&image.shadow_view, shadow_start(&image.view), image.view.counts[SECTION_SHADOW_IMAGE], "the shadow in the image")
        if image.shadow_view.counts[SECTION_SHADOW]:
            raise ImageError("the shadow in the image cannot be used: it has one of its own")
        # Answers name the image in place, whichever half of it they come from.
        memcpy(image.shadow_view.revision, image.view.revision, 64)
        image.view.shadow = &image.shadow_view
    image.statistics = {
        "principals": image.view.header.principals,
        "policies": image.view.header.policies,
        "statements": image.view.header.statements,
        "image_bytes": size,
    }
    return image
