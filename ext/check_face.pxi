# SPDX-License-Identifier: Apache-2.0
# What Python sees of answering Envoy.

from sidecar.compile.check_templates import parse_bodies
from sidecar.compile.identity_headers import always_removed
from sidecar.model.check import CheckSettings, OnError


@cython.final
cdef class CheckPlan:
    """
    How requests of Envoy are answered, read once from its settings.

    Thread-safety: immutable.
    """

    cdef CheckView view
    cdef list kept            # what the view points into

    def __cinit__(self):
        memset(&self.view, 0, sizeof(CheckView))

    def __init__(self, settings):
        """
        Args:
            settings: A `sidecar.model.check.CheckSettings`.

        Raises:
            SettingsError: A template is none.
            ValueError: The prompt's address or the cookie's name is too long or can stand in no header.
        """
        cdef bytes removals
        cdef uint32_t i
        if self.kept is not None:
            raise ValueError("a plan cannot be changed")
        self.kept = []
        for text in (settings.prompt_url, settings.cookie_name):
            if len(text) > PROMPT_URL_MOST or not text.isascii() or (text and not text.isprintable()) or '"' in text:
                raise ValueError("what stands in headers is printable ASCII without quotes, and not too long")
        self.view.trusted_hops = settings.trusted_hops
        self.view.sends_errors = settings.on_error == OnError.ERROR_RESPONSE
        self.view.step_up_hints = settings.step_up_hints
        self.view.prompt_url = self.keep(settings.prompt_url.rstrip("/").encode())
        self.view.cookie_name = self.keep(settings.cookie_name.encode())
        removals = b"".join([_field(5, name.encode()) for name in always_removed()])
        self.view.removals = self.keep(removals)
        for i, body in enumerate(parse_bodies(settings.templates)):
            self.put_body(i, body)

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(BODY_COUNT):
            free(<void *>self.view.bodies[i].pieces)

    cdef Slice keep(self, bytes text):
        self.kept.append(text)
        return slice_of(<const uint8_t *><const char *>text, <uint32_t>len(text))

    cdef object put_body(self, uint32_t number, body):
        cdef BodyTemplate *place = &self.view.bodies[number]
        cdef BodyPiece *pieces = <BodyPiece *>calloc(len(body.pieces) + 1, sizeof(BodyPiece))
        cdef uint32_t i
        if pieces == NULL:
            raise MemoryError
        place.pieces = pieces
        for i, piece in enumerate(body.pieces):
            pieces[i].fill = piece.fill
            pieces[i].text = self.keep(piece.text)
        place.count = <uint32_t>len(body.pieces)
        place.is_html = body.is_html
        place.is_ours = body.is_ours


# Of those who state no settings.
cdef CheckPlan default_check_plan = CheckPlan(CheckSettings())


def check(
    Image image, bytes request, *, int64_t seconds, uint32_t nanos, CheckPlan plan=None, Recorder recorder=None,
    SessionState sessions=None,
):
    """
    Answer one serialized ``CheckRequest`` with a serialized ``CheckResponse``; there is always one.

    The caller owns the clock: *seconds* since the epoch and *nanos*. Runs without the GIL.

    Args:
        image: The snapshot to decide by; None: it cannot be decided.
        plan: How it is answered; None: as by default.
        recorder: Counts and records the decision.
        sessions: What session tokens are opened with; None: none is valid.
    """
    cdef Reply reply
    cdef ClockReading now
    cdef const ImageView *view = NULL if image is None else &image.view
    cdef const SessionKeys *keys = NULL if sessions is None else &sessions.keys
    cdef Slice message = slice_of(<const uint8_t *><const char *>request, <uint32_t>min(<size_t>len(request), <size_t>MAX_BATCH_BYTES + 1))
    cdef bint too_large = len(request) > MAX_BATCH_BYTES
    cdef bint answered = True
    if seconds < 0:
        raise ValueError("seconds since the epoch cannot be negative")
    now.seconds = seconds
    now.nanos = nanos
    if recorder is None:
        recorder = nobodys_recorder
    if plan is None:
        plan = default_check_plan
    with nogil:
        pthread_mutex_lock(&recorder.lock)
        recorder.desk.check = &plan.view
        recorder.desk.tokens.opener.keys = keys if desk_can_open(recorder.desk) else NULL
        if too_large:
            refuse_check(recorder.desk, RPC_RESOURCE_EXHAUSTED, True, &reply)
        else:
            answer_check(recorder.desk, view, message, now, &reply)
            answered = reply_own(&reply)
            if answered and reply.waits:
                reply.answer_len = wait_for_place(recorder, METHOD_CHECK, &reply)
        pthread_mutex_unlock(&recorder.lock)
    if not answered:
        raise MemoryError
    try:
        return (<const char *>reply.answer)[FRAMING:FRAMING + reply.answer_len]
    finally:
        if reply.answer_owned:
            free(reply.answer)


cdef bint reply_own(Reply *reply) noexcept nogil:
    # Take the answer out of the desk's room, which others may use as soon as the lock is let go, and leave it the room that
    # staging_refuse needs. False: there is no memory.
    cdef uint8_t *answer
    if reply.answer_owned or reply.answer == reply.room:
        return True
    answer = <uint8_t *>malloc(FRAMING + max(reply.answer_len, <uint64_t>CHECK_REFUSAL_MOST))
    if answer == NULL:
        staging_clear(&reply.staging)
        return False
    memcpy(answer, reply.answer, FRAMING + reply.answer_len)
    reply.answer = answer
    reply.answer_owned = True
    return True
