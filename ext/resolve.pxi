# SPDX-License-Identifier: Apache-2.0
# What Python sees of routes: what a request of Envoy asks, and who asks it, without an answer.

from sidecar.model.request import ContextValue
from sidecar.model.resolved_check import ResolvedCheck
from sidecar.model.route import CallerSource, RouteFlag


# Too large for a stack. Confined to one call.
cdef struct Resolution:
    Attributes attributes
    Target target
    RouteMatch match
    CallerFound caller
    Request request
    RouteRoom room
    Crypto crypto


cdef str slice_str(Slice text):
    return (<const char *>text.data)[:text.len].decode("utf-8", "replace") if text.len else ""


cdef dict context_dict(const Request *request):
    cdef const ContextEntry *entry
    cdef uint32_t i
    cdef uint32_t k
    context = {}
    for i in range(request.entry_count):
        entry = &request.entries[i]
        values = tuple([slice_str(request.values[entry.first + k]) for k in range(entry.count)])
        context[slice_str(entry.name)] = ContextValue(values, multivalued=bool(entry.multivalued))
    return context


cdef uint32_t resolve(const ImageView *image, Slice cookie_name, Resolution *all) noexcept nogil:
    # The reason to deny attributes that were read, or REASON_UNSPECIFIED; what was not reached is cleared.
    request_clear(&all.request)
    all.match.route = NULL
    all.match.capture_count = 0
    all.target.segment_count = 0
    caller_identify(image, &all.attributes, cookie_name, &all.crypto, &all.caller)
    if image.counts[SECTION_ROUTE_SETTINGS] == 0:
        return REASON_NO_ROUTE
    if not target_read(&all.target, all.attributes.path, image.route_settings.flags):
        all.target.segment_count = 0
        return REASON_PATH_INVALID
    if not route_find(image, all.attributes.method, all.attributes.host, &all.target, &all.match):
        return REASON_NO_ROUTE
    if all.match.route.flags & ROUTE_PUBLIC:
        return REASON_UNSPECIFIED
    return route_bind(
        image, &all.attributes, &all.target, &all.match, &all.caller, all.attributes.source_address, &all.request, &all.room
    )


cdef object resolved(const ImageView *image, const Resolution *all, uint32_t reason):
    cdef const RouteRecord *route = all.match.route
    cdef uint32_t i
    return ResolvedCheck(
        reason=Reason(reason),
        segments=tuple([slice_str(all.target.segments[i]) for i in range(all.target.segment_count)]),
        route_id="" if route == NULL else image_str(image, route.id, route.id_len),
        flags=RouteFlag(0 if route == NULL else route.flags),
        captures=tuple([slice_str(all.match.captures[i]) for i in range(all.match.capture_count if route != NULL else 0)]),
        action=slice_str(all.request.action),
        resource=slice_str(all.request.resource),
        resource_account=slice_str(all.request.resource_account),
        context=context_dict(&all.request),
        caller=CallerSource(all.caller.kind),
        principal=slice_str(all.caller.principal),
        session_token=slice_str(all.caller.session_token),
    )


def resolve_check(Image image not None, bytes check_request, *, str cookie_name=""):
    """
    Return what a serialized ``CheckRequest`` asks and who asks it, as a `ResolvedCheck`; nothing is decided.

    The address of the peer is the source, whatever proxies are trusted.

    Args:
        cookie_name: Cookie that holds a session token; empty: there is none.

    Raises:
        RequestError: The message is malformed; its ``field`` names where.
    """
    cdef Fault fault
    cdef bytes cookie = cookie_name.encode("utf-8", "surrogatepass")
    cdef uint32_t reason
    cdef Slice cookie_slice = slice_of(<const uint8_t *><const char *>cookie, <uint32_t>min(<size_t>len(cookie), <size_t>4096))
    cdef Slice message = slice_of(<const uint8_t *><const char *>check_request, <uint32_t>len(check_request))
    cdef Resolution *all
    if len(check_request) > MAX_BATCH_BYTES:
        raise RequestError(f"`request` cannot be used: it is longer than {MAX_BATCH_BYTES} bytes", field="request")
    all = <Resolution *>malloc(sizeof(Resolution))
    if all == NULL:
        raise MemoryError
    try:
        fault_clear(&fault)
        if not attributes_read(message, &all.attributes, &fault):
            raise fault_error(&fault)
        all.crypto.cipher = NULL
        all.crypto.digest = NULL
        if not crypto_make(&all.crypto):
            raise InternalError("API keys cannot be told", cause="libcrypto offers no AES-256-GCM or no SHA-256")
        try:
            with nogil:
                reason = resolve(&image.view, cookie_slice, all)
            return resolved(&image.view, all, reason)
        finally:
            crypto_clear(&all.crypto)
    finally:
        free(all)
