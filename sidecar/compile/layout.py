# SPDX-License-Identifier: Apache-2.0
"""
The layout of an image: header, sections and records, stated once.

``python -m sidecar.compile.layout`` prints the same as Cython declarations, which stand in
``ext/layout.pxi``; the extension reads what ``sidecar.compile.image`` writes.

An image is one flat block of little-endian numbers: a header, a table of sections, then the
sections, each aligned to 64 bytes. Tables refer to each other by index and to text by offset and
length in the section of strings, so the block can stand at any address.
"""

from __future__ import annotations

import struct

from sidecar.compile import check_templates, session_claims, step_up_ticket
from sidecar.model import request, route, session, shadow
from sidecar.model.check import CheckResult
from sidecar.model.decision import Decision, MfaMethod, PolicyLayer, Reason
from sidecar.model.listener import CloseReason, ListenerLimit, RpcMethod, RpcStatus
from sidecar.model.policy import Comparison, Qualifier, ValueType

MAGIC = b"IAMIMAGE"
FORMAT_VERSION = 3
ALIGNMENT = 64
#: "No such record", in every field that holds an index.
NONE = 0xFFFFFFFF
#: Bytes that stand for wildcards inside encoded patterns; neither occurs in UTF-8.
WILD_RUN = 0xFF
WILD_CHAR = 0xFE

_FORMATS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "b16": "16s"}
_C_TYPES = {"u8": "uint8_t", "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "i64": "int64_t"}


class Record:
    """
    One kind of fixed-size record.

    Attributes:
        name: Its name in C.
        fields: ``(name, type, meaning)`` of each field.
        struct: Packer of one record, without padding.
    """

    __slots__ = ("fields", "name", "struct")

    def __init__(self, name: str, fields: tuple[tuple[str, str, str], ...]) -> None:
        self.name = name
        self.fields = fields
        self.struct = struct.Struct("<" + "".join(_FORMATS[kind] for _, kind, _ in fields))


HEADER = Record(
    "ImageHeader",
    (
        ("magic", "u64", "MAGIC"),
        ("format_version", "u32", "FORMAT_VERSION"),
        ("section_count", "u32", "entries of the section table behind the header"),
        ("total_size", "u64", "bytes of the whole image"),
        ("checksum", "u32", "CRC-32 of everything behind the header"),
        ("flags", "u32", "IMAGE_*"),
        ("organization", "u32", "string offset of the organization id"),
        ("organization_len", "u32", "0: there is none"),
        ("only_account", "u32", "the account, where there is but one with a dump"),
        ("principals", "u32", "users and roles"),
        ("policies", "u32", "for statistics"),
        ("statements", "u32", "for statistics"),
        ("resource_services", "u64", "bit n: a resource policy stands on an ARN whose service hashes to n modulo 64"),
    ),
)

SECTION = Record(
    "ImageSection",
    (
        ("kind", "u32", "its number in the list of sections"),
        ("record_size", "u32", "bytes of one record"),
        ("offset", "u64", "from the start of the image"),
        ("count", "u64", "records"),
    ),
)

PRINCIPAL = Record(
    "Principal",
    (
        ("key", "u32", "string: user, root or federated user ARN; of a role `arn:P:sts::A:assumed-role/NAME`"),
        ("key_len", "u32", ""),
        ("kind", "u32", "CALLER_*"),
        ("flags", "u32", "PRINCIPAL_*"),
        ("account", "u32", "index of its account"),
        ("identity", "u32", "set of identity-based policies: its first word"),
        ("boundary", "u32", "set of the permissions boundary, or NONE"),
        ("parent", "u32", "of a federated user: the calling user"),
        ("arn", "u32", "string: value of aws:PrincipalArn"),
        ("arn_len", "u32", ""),
        ("name", "u32", "string: name without path"),
        ("name_len", "u32", ""),
        ("unique_id", "u32", "string: AIDA... or AROA..."),
        ("unique_id_len", "u32", ""),
        ("tags", "u32", "first of its tags, sorted by key"),
        ("tag_count", "u32", ""),
    ),
)

ACCOUNT = Record(
    "Account",
    (
        ("id", "u32", "string of twelve digits"),
        ("id_len", "u32", ""),
        ("flags", "u32", "ACCOUNT_*"),
        ("partition", "u32", "string"),
        ("partition_len", "u32", ""),
        ("path", "u32", "string: value of aws:PrincipalOrgPaths"),
        ("path_len", "u32", ""),
        ("levels", "u32", "first of its service control levels"),
        ("level_count", "u32", ""),
        ("service_control", "u32", "set of the statements of all levels, for Deny"),
        ("resource_control", "u32", "set of the statements of all levels, for Deny"),
    ),
)

#: What is known of an account beside its policies; one for each `Account`, in the same order.
ACCOUNT_DETAILS = Record(
    "AccountDetails",
    (
        ("alias", "u32", "string"),
        ("alias_len", "u32", "0: there is none"),
        ("flags", "u32", "PASSWORD_*"),
        ("minimum_length", "u32", "of a password, and likewise below; all 0 without PASSWORD_POLICY"),
        ("max_age", "u32", "days; 0: it does not expire"),
        ("reuse_prevention", "u32", "0: all can be used again"),
    ),
)

#: Head of a policy set in the section of sets, a whole number of `SET_ALIGNMENT` words. Behind it stand
#: the numbers of its services (16 bits each, sorted, padded to 32), one word more than that of where the
#: rules of each service begin (low half) and how many of them deny (high half), the references of the
#: rules for every service, and the references of the rules by service; those that deny always first.
POLICY_SET = Record(
    "PolicySet",
    (
        ("words", "u32", "of the whole set, this head included"),
        ("flags", "u32", "SET_*"),
        ("service_count", "u32", ""),
        ("entries", "u32", "word where the entries of the services begin"),
        ("any", "u32", "word where the references for every service begin"),
        ("any_denies", "u32", "how many of those deny"),
        ("any_count", "u32", ""),
        ("deny_services", "u32", "bit n: a service whose number is n modulo 32 has a rule that denies"),
    ),
)
SET_ALIGNMENT = 16

RULE = Record(
    "Rule",
    (
        ("statement", "u32", "where it comes from"),
        ("actions", "u32", "action number, action set or wide action set, as the flags say"),
        ("resources", "u32", "pattern or resource set, as the flags say"),
        ("block", "u32", "condition block, or NONE"),
        ("principals", "u32", "first of its principal entries"),
        ("principal_count", "u16", ""),
        ("flags", "u16", "RULE_*"),
    ),
)

SERVICE = Record("Service", (("name", "u32", "string in lower case"), ("name_len", "u32", "")))

ACTION = Record(
    "Action",
    (
        ("name", "u32", "string `service:name` in lower case"),
        ("name_len", "u32", ""),
        ("service", "u32", "index of its service"),
        ("number", "u32", "its bit in the service's action sets"),
        ("wide", "u64", "bit n: the wide action set n holds it"),
    ),
)

ACTION_SET = Record(
    "ActionSet",
    (
        ("words", "u32", "first 64-bit word of its bits"),
        ("word_count", "u32", ""),
        ("globs", "u32", "first pattern for actions that no policy spells out"),
        ("glob_count", "u32", ""),
    ),
)

WIDE_SET = Record(
    "WideSet",
    (
        ("flags", "u32", "WIDE_*"),
        ("services", "u32", "first of its services, sorted"),
        ("service_count", "u32", ""),
        ("globs", "u32", "first pattern over `service:name`"),
        ("glob_count", "u32", ""),
    ),
)

WIDE_SERVICE = Record(
    "WideService",
    (("service", "u32", ""), ("actions", "u32", "action set, or NONE: all of its actions")),
)

RESOURCE_SET = Record("ResourceSet", (("patterns", "u32", "first pattern"), ("count", "u32", "")))

PATTERN = Record(
    "Pattern",
    (
        ("text", "u32", "string with wildcard bytes; of a template its first piece"),
        ("len", "u32", ""),
        ("literal", "u32", "length of the text before the first wildcard"),
        ("kind", "u16", "PATTERN_*"),
        ("piece_count", "u16", "of a template"),
    ),
)

PIECE = Record(
    "Piece",
    (
        ("key", "u32", "condition key of a variable; NONE: text"),
        ("text", "u32", "string with wildcard bytes, or the default of the variable"),
        ("len", "u32", ""),
        ("has_default", "u32", ""),
    ),
)

BLOCK = Record(
    "Block",
    (("tests", "u32", "first of its tests; all must hold"), ("count", "u16", ""), ("flags", "u16", "0")),
)

TEST = Record(
    "Test",
    (
        ("value_type", "u8", "VALUE_*"),
        ("comparison", "u8", "COMPARE_*"),
        ("qualifier", "u8", "QUALIFIER_*"),
        ("flags", "u8", "TEST_*"),
        ("key", "u32", ""),
        ("values", "u32", "first pattern, instant, binary (as a pattern) or network"),
        ("value_count", "u32", ""),
    ),
)

INSTANT = Record("Instant", (("seconds", "i64", ""), ("nanos", "u32", ""), ("reserved", "u32", "0")))

NETWORK = Record(
    "Network",
    (
        ("high", "u64", "first 64 bits, as a number"),
        ("low", "u64", "last 64 bits; an IPv4 address stands in the last 32"),
        ("family", "u32", "4 or 6"),
        ("prefix", "u32", "bits"),
    ),
)

KEY = Record(
    "Key",
    (
        ("name", "u32", "string in lower case"),
        ("name_len", "u32", ""),
        ("source", "u32", "SOURCE_*"),
        ("builtin", "u32", "KEY_*, where the source is builtin"),
    ),
)

TAG = Record("Tag", (("key", "u32", ""), ("text", "u32", ""), ("len", "u32", "")))

PRINCIPAL_ENTRY = Record(
    "PrincipalEntry",
    (
        ("kind", "u32", "ENTRY_*"),
        ("ref", "u32", "account or principal"),
        ("text", "u32", "session name or service"),
        ("len", "u32", ""),
    ),
)

RESOURCE_POLICY = Record(
    "ResourcePolicy",
    (
        ("arn", "u32", "string; literal text before a wildcard"),
        ("arn_len", "u32", ""),
        ("set", "u32", ""),
        ("account", "u32", "owner"),
    ),
)

ROLE_TRUST = Record(
    "RoleTrust",
    (
        ("arn", "u32", "string"),
        ("arn_len", "u32", ""),
        ("set", "u32", ""),
        ("principal", "u32", "the role"),
        ("max_session_duration", "u32", "seconds"),
    ),
)

POLICY_NAME = Record("PolicyName", (("name", "u32", "string"), ("name_len", "u32", "")))

STATEMENT = Record(
    "StatementName",
    (
        ("policy", "u32", ""),
        ("sid", "u32", "string"),
        ("sid_len", "u32", ""),
        ("index", "u32", "its place in the document"),
    ),
)

#: How request targets are read; one record where there are routes, else none.
ROUTE_SETTINGS = Record("RouteSettings", (("flags", "u32", "ROUTE_*"), ("reserved", "u32", "0")))

#: Hosts of routes: exact in lower case, `.example.com` for `*.example.com`, and the empty name for any host.
ROUTE_HOST = Record(
    "RouteHost", (("name", "u32", "string"), ("name_len", "u32", ""), ("root", "u32", "node of the path `/`"))
)

#: What may come behind a beginning of a path, and which routes end there.
ROUTE_NODE = Record(
    "RouteNode",
    (
        ("mixed", "u32", "first of the children with text round a name, those with more text first"),
        ("mixed_count", "u32", ""),
        ("any", "u32", "node behind a segment of any text, or NONE"),
        ("leaves", "u32", "first of the routes that end here, those that state methods first"),
        ("leaf_count", "u32", ""),
        ("rest", "u32", "first of the routes that take all that follows, likewise"),
        ("rest_count", "u32", ""),
        ("edge_count", "u32", "segments of fixed text that lead on; 0: the table need not be asked"),
    ),
)

#: A segment of fixed text. Found by `hash_text(text) ^ parent * EDGE_MULTIPLIER`, modulo 2**32.
ROUTE_EDGE = Record(
    "RouteEdge",
    (
        ("text", "u32", "string, decoded; folded where case does not count"),
        ("len", "u32", ""),
        ("parent", "u32", ""),
        ("child", "u32", ""),
    ),
)

ROUTE_MIXED = Record(
    "RouteMixed",
    (
        ("before", "u32", "string"),
        ("before_len", "u32", ""),
        ("behind", "u32", "string"),
        ("behind_len", "u32", ""),
        ("child", "u32", ""),
    ),
)

ROUTE_LEAF = Record(
    "RouteLeaf",
    (
        ("methods", "u32", "bit n: method n of HTTP_METHODS; ALL_METHODS: any"),
        ("method", "u32", "string: a method that is not among them"),
        ("method_len", "u32", "0: there is none"),
        ("route", "u32", ""),
    ),
)

#: One route. Its templates are runs of pieces.
ROUTE = Record(
    "RouteRecord",
    (
        ("id", "u32", "string"),
        ("id_len", "u32", ""),
        ("flags", "u32", "ROUTE_PUBLIC, ROUTE_FORWARD_TOKEN, ROUTE_PROOF_FOR_CALL"),
        ("captures", "u32", "how many segments of its path are not fixed, in their order"),
        ("action", "u32", "first piece"),
        ("action_count", "u32", ""),
        ("resource", "u32", "first piece"),
        ("resource_count", "u32", ""),
        ("account", "u32", "first piece"),
        ("account_count", "u32", "0: there is none"),
        ("context", "u32", "first entry"),
        ("context_count", "u32", ""),
    ),
)

ROUTE_PIECE = Record(
    "RoutePiece",
    (
        ("source", "u32", "PIECE_*"),
        ("text", "u32", "string: the text, or the name of what is taken; names of nested claims with a NUL between"),
        ("len", "u32", ""),
        ("capture", "u32", "which capture, where it is one"),
        ("rule", "u32", "VALUE_RULE_*: what a value may hold"),
    ),
)

ROUTE_CONTEXT = Record(
    "RouteContext",
    (("key", "u32", "string"), ("key_len", "u32", ""), ("pieces", "u32", "first piece"), ("piece_count", "u32", "")),
)

ROUTE_TEXT = Record("RouteText", (("text", "u32", "string"), ("len", "u32", "")))

#: One way to tell who calls, in the order in which they are tried.
CALLER_RULE = Record(
    "CallerRule",
    (
        ("source", "u32", "CALLER_SOURCE_*"),
        ("flags", "u32", "CALLER_HEADER, CALLER_COOKIE"),
        ("name", "u32", "string: of a JWT the filter, a NUL and the payload; of an API key the header"),
        ("name_len", "u32", ""),
        ("tests", "u32", "of a JWT: first claim test; of a certificate: first piece that its name must match"),
        ("test_count", "u32", ""),
        ("texts", "u32", "of an API key: first of the texts: the name of the client, then digests in hex"),
        ("text_count", "u32", ""),
        ("principal", "u32", "first piece"),
        ("principal_count", "u32", "0: nobody, the anonymous caller"),
    ),
)

#: All tests of a rule must hold; of the texts of one, one must be the claim, or stand in it.
CLAIM_TEST = Record(
    "ClaimTest",
    (
        ("claim", "u32", "string; nested names with a NUL between"),
        ("claim_len", "u32", ""),
        ("texts", "u32", ""),
        ("text_count", "u32", ""),
    ),
)

#: What only the image in SHADOW_IMAGE holds, that which ends first before the others.
SHADOW = Record(
    "ShadowRecord",
    (
        ("id", "u32", "string: the name of a policy, or the id of a route"),
        ("id_len", "u32", ""),
        ("until", "i64", "seconds since the epoch, from which on it is in force"),
        ("kind", "u32", "SHADOW_POLICY, SHADOW_ROUTE"),
        ("reserved", "u32", "0"),
    ),
)

U8 = Record("", (("value", "u8", ""),))
U16 = Record("", (("value", "u16", ""),))
U32 = Record("", (("value", "u32", ""),))
U64 = Record("", (("value", "u64", ""),))

#: Every section, in the order of their numbers.
SECTIONS: tuple[tuple[str, Record], ...] = (
    ("STRINGS", U8),
    ("PRINCIPALS", PRINCIPAL),
    ("PRINCIPAL_TABLE", U32),
    ("ACCOUNTS", ACCOUNT),
    ("ACCOUNT_TABLE", U32),
    ("LEVELS", U32),
    ("SETS", U32),
    ("RULES", RULE),
    ("SERVICES", SERVICE),
    ("SERVICE_TABLE", U32),
    ("ACTIONS", ACTION),
    ("ACTION_TABLE", U32),
    ("ACTION_SETS", ACTION_SET),
    ("ACTION_WORDS", U64),
    ("WIDE_SETS", WIDE_SET),
    ("WIDE_SERVICES", WIDE_SERVICE),
    ("RESOURCE_SETS", RESOURCE_SET),
    ("PATTERNS", PATTERN),
    ("PIECES", PIECE),
    ("BLOCKS", BLOCK),
    ("TESTS", TEST),
    ("INSTANTS", INSTANT),
    ("NETWORKS", NETWORK),
    ("KEYS", KEY),
    ("KEY_TABLE", U32),
    ("TAGS", TAG),
    ("PRINCIPAL_ENTRIES", PRINCIPAL_ENTRY),
    ("RESOURCE_POLICIES", RESOURCE_POLICY),
    ("RESOURCE_POLICY_TABLE", U32),
    ("WILDCARD_POLICIES", RESOURCE_POLICY),
    ("WILDCARD_POLICY_TABLE", U32),
    ("WILDCARD_LENGTHS", U32),
    ("ROLE_TRUSTS", ROLE_TRUST),
    ("ROLE_TRUST_TABLE", U32),
    ("POLICY_NAMES", POLICY_NAME),
    ("STATEMENT_NAMES", STATEMENT),
    ("SESSION_SETS", U32),
    ("ACCOUNT_DETAILS", ACCOUNT_DETAILS),
    ("ROUTE_SETTINGS", ROUTE_SETTINGS),
    ("ROUTE_HOSTS", ROUTE_HOST),
    ("ROUTE_HOST_TABLE", U32),
    ("ROUTE_NODES", ROUTE_NODE),
    ("ROUTE_EDGES", ROUTE_EDGE),
    ("ROUTE_EDGE_TABLE", U32),
    ("ROUTE_MIXED", ROUTE_MIXED),
    ("ROUTE_LEAVES", ROUTE_LEAF),
    ("ROUTES", ROUTE),
    ("ROUTE_PIECES", ROUTE_PIECE),
    ("ROUTE_CONTEXT", ROUTE_CONTEXT),
    ("ROUTE_TEXTS", ROUTE_TEXT),
    ("CALLER_RULES", CALLER_RULE),
    ("CLAIM_TESTS", CLAIM_TEST),
    ("SHADOW", SHADOW),
    ("SHADOW_IMAGE", U8),
)

SECTION_NUMBERS = {name: number for number, (name, _) in enumerate(SECTIONS)}

#: Closed sets of numbers that stand in records.
CONSTANTS: dict[str, int] = {
    "IMAGE_ROOT_ALLOWED": 1,
    "IMAGE_HAS_ORGANIZATION": 2,
    "IMAGE_SESSION_POLICIES": 4,
    "CALLER_ANONYMOUS": 0,
    "CALLER_USER": 1,
    "CALLER_ROLE": 2,
    "CALLER_ROOT": 3,
    "CALLER_FEDERATED_USER": 4,
    "CALLER_SERVICE": 5,
    "PRINCIPAL_SERVICE_LINKED": 1,
    "ACCOUNT_KNOWN": 1,
    "ACCOUNT_IN_ORGANIZATION": 2,
    "ACCOUNT_MANAGEMENT": 4,
    "PASSWORD_POLICY": 1,
    "PASSWORD_SYMBOLS": 2,
    "PASSWORD_NUMBERS": 4,
    "PASSWORD_UPPERCASE": 8,
    "PASSWORD_LOWERCASE": 16,
    "PASSWORD_OWN_CHANGE": 32,
    "PASSWORD_HARD_EXPIRY": 64,
    "SET_ALLOWS_ALL": 1,
    "SET_ALIGNMENT": SET_ALIGNMENT,
    "RULE_DENY": 1,
    "RULE_ACTION_ALL": 2,
    "RULE_ACTION_ONE": 4,
    "RULE_ACTION_SET": 8,
    "RULE_ACTION_WIDE": 16,
    "RULE_RESOURCE_ANY": 32,
    "RULE_RESOURCE_ONE": 64,
    "RULE_NOT_RESOURCE": 128,
    "RULE_PRINCIPAL": 256,
    "RULE_NOT_PRINCIPAL": 512,
    "WIDE_BITS": 64,
    "WIDE_ALL": 1,
    "WIDE_NEGATED": 2,
    "PATTERN_ANY": 1,
    "PATTERN_EXACT": 2,
    "PATTERN_PREFIX": 3,
    "PATTERN_GLOB": 4,
    "PATTERN_TEMPLATE": 5,
    "TEST_NEGATED": 1,
    "TEST_IF_EXISTS": 2,
    "TEST_EXPECT_NULL": 4,
    "TEST_MFA_AGE": 8,
    "TEST_EXPECT_PRESENT": 16,
    "SOURCE_CONTEXT": 1,
    "SOURCE_PRINCIPAL_TAG": 2,
    "SOURCE_BUILTIN": 3,
    "ENTRY_NEVER": 0,
    "ENTRY_ANY": 1,
    "ENTRY_ACCOUNT": 2,
    "ENTRY_PRINCIPAL": 3,
    "ENTRY_SESSION": 4,
    "ENTRY_SERVICE": 5,
    "MAX_PIECES": 1024,
    **{f"ROUTE_{kind.name}": kind.value for kind in route.RouteFlag},
    **{f"PIECE_{kind.name}": kind.value for kind in route.PieceSource},
    **{f"VALUE_RULE_{kind.name}": kind.value for kind in route.ValueRule},
    **{f"CALLER_SOURCE_{kind.name}": kind.value for kind in route.CallerSource},
    "CALLER_HEADER": 1,
    "CALLER_COOKIE": 2,
    "ALL_METHODS": NONE,
    "SHADOW_POLICY": 0,
    "SHADOW_ROUTE": 1,
    "SHADOW_LAST_UNTIL": shadow.LAST_SECOND,
    "EDGE_MULTIPLIER": 0x9E3779B1,
    "MAX_CAPTURES": route.MAX_CAPTURES,
    "MAX_SEGMENTS": route.MAX_SEGMENTS,
    "MAX_TARGET": route.MAX_TARGET,
    "TICKET_VERSION": step_up_ticket.TICKET_VERSION,
    "TICKET_LIFETIME_MS": step_up_ticket.LIFETIME_MS,
    "TICKET_FOR_CALL": step_up_ticket.FOR_CALL,
    "TICKET_HAS_MAX_AGE": step_up_ticket.HAS_MAX_AGE,
    "TICKET_USER_VERIFICATION": step_up_ticket.USER_VERIFICATION,
    "TICKET_MAX_RETURN_ADDRESS": step_up_ticket.MAX_RETURN_ADDRESS,
    **{f"VALUE_{kind.name}": kind.value for kind in ValueType},
    **{f"COMPARE_{kind.name}": kind.value for kind in Comparison},
    "QUALIFIER_NONE": Qualifier.NONE.value,
    "QUALIFIER_ALL": Qualifier.FOR_ALL_VALUES.value,
    "QUALIFIER_ANY": Qualifier.FOR_ANY_VALUE.value,
    **{f"DECISION_{kind.name}": kind.value for kind in Decision},
    **{f"LAYER_{kind.name}": kind.value for kind in PolicyLayer},
    **{f"REASON_{kind.name}": kind.value for kind in Reason},
    **{f"MFA_{kind.name}": kind.value for kind in MfaMethod},
    **{f"METHOD_{kind.name}": kind.value for kind in RpcMethod},
    "METHOD_COUNT": len(RpcMethod),
    **{f"RPC_{kind.name}": kind.value for kind in RpcStatus},
    "RPC_COUNT": len(RpcStatus),
    **{f"LIMIT_{kind.name}": kind.value for kind in ListenerLimit},
    "LIMIT_COUNT": len(ListenerLimit),
    **{f"CLOSE_{kind.name}": kind.value for kind in CloseReason},
    "CLOSE_COUNT": len(CloseReason),
    **{f"CHECK_{kind.name}": kind.value for kind in CheckResult},
    "CHECK_COUNT": len(CheckResult),
    **{f"FILL_{kind.name}": kind.value for kind in check_templates.Fill},
    "LAYER_COUNT": len(PolicyLayer),
    **{f"SESSION_{kind.name}": kind.value for kind in session.SessionKind},
    "TOKEN_VERSION": session_claims.TOKEN_VERSION,
    "TOKEN_KEY_ID_BYTES": session_claims.KEY_ID_BYTES,
    "TOKEN_ACCESS_KEY_ID_BYTES": session_claims.ACCESS_KEY_ID_BYTES,
    "TOKEN_NONCE_BYTES": session_claims.NONCE_BYTES,
    "TOKEN_TAG_BYTES": session_claims.TAG_BYTES,
    "TOKEN_HEADER_BYTES": session_claims.HEADER_BYTES,
    "CLAIMS_FORMAT": session_claims.CLAIMS_FORMAT,
    "CLAIMS_IS_CHAINED": session_claims.IS_CHAINED,
    "CLAIMS_HAS_MFA": session_claims.HAS_MFA,
    "CLAIMS_HAS_BOUND": session_claims.HAS_BOUND,
    "MAX_SESSION_TOKEN": session.MAX_SESSION_TOKEN,
    "MAX_SESSION_TAGS": session.MAX_SESSION_TAGS,
    "BOUND_PROOF_MS": session.BOUND_PROOF_MS,
    "CLOCK_SKEW_MS": session.CLOCK_SKEW_MS,
    "MAX_REQUEST_BYTES": request.MAX_REQUEST_BYTES,
    "MAX_BATCH_BYTES": request.MAX_BATCH_BYTES,
    "MAX_BATCH_REQUESTS": request.MAX_BATCH_REQUESTS,
    "MAX_PRINCIPAL": request.MAX_PRINCIPAL,
    "MAX_SERVICE_PRINCIPAL": request.MAX_SERVICE_PRINCIPAL,
    "MAX_ACTION": request.MAX_ACTION,
    "MAX_RESOURCE": request.MAX_RESOURCE,
    "MAX_CONTEXT_KEYS": request.MAX_CONTEXT_KEYS,
    "MAX_CONTEXT_KEY": request.MAX_CONTEXT_KEY,
    "MAX_CONTEXT_VALUES": request.MAX_CONTEXT_VALUES,
    "MAX_CONTEXT_VALUE": request.MAX_CONTEXT_VALUE,
}

#: Condition keys that the core itself computes; the number is ``KEY_*`` in the core. Other
#: reserved keys are absent (``KEY_ABSENT``) unless an override states them.
BUILTIN_KEYS: tuple[tuple[str, str], ...] = (
    ("ABSENT", ""),
    ("CURRENT_TIME", "aws:currenttime"),
    ("EPOCH_TIME", "aws:epochtime"),
    ("TOKEN_ISSUE_TIME", "aws:tokenissuetime"),
    ("MFA_PRESENT", "aws:multifactorauthpresent"),
    ("MFA_AGE", "aws:multifactorauthage"),
    ("MFA_METHOD", "sidecar:mfamethod"),
    ("MFA_USER_VERIFIED", "sidecar:mfauserverified"),
    ("MFA_DEVICE_SERIAL", "sidecar:mfadeviceserial"),
    ("PRINCIPAL_ARN", "aws:principalarn"),
    ("PRINCIPAL_ACCOUNT", "aws:principalaccount"),
    ("PRINCIPAL_ORG_ID", "aws:principalorgid"),
    ("PRINCIPAL_ORG_PATHS", "aws:principalorgpaths"),
    ("PRINCIPAL_TYPE", "aws:principaltype"),
    ("PRINCIPAL_IS_AWS_SERVICE", "aws:principalisawsservice"),
    ("PRINCIPAL_SERVICE_NAME", "aws:principalservicename"),
    ("PRINCIPAL_SERVICE_NAMES", "aws:principalservicenameslist"),
    ("USER_ID", "aws:userid"),
    ("USERNAME", "aws:username"),
    ("VIA_AWS_SERVICE", "aws:viaawsservice"),
    ("RESOURCE_ACCOUNT", "aws:resourceaccount"),
    ("RESOURCE_ORG_ID", "aws:resourceorgid"),
    ("RESOURCE_ORG_PATHS", "aws:resourceorgpaths"),
    ("SOURCE_IDENTITY", "aws:sourceidentity"),
)

_MASK = 0xFFFFFFFFFFFFFFFF
_HASH_MULTIPLIER = 0x9E3779B97F4A7C15
_WORD = struct.Struct("<Q")


def hash_text(data: bytes) -> int:
    """
    Hash *data* to 32 bits for the tables of an image.

    Tables compare the whole text after the hash has led to it; no decision rests on the hash.

    >>> hash_text(b"s3:getobject") == hash_text(b"s3:getobject")
    True
    """
    length = len(data)
    value = length * _HASH_MULTIPLIER & _MASK
    unpack = _WORD.unpack_from
    if length < 8:
        value = (value ^ int.from_bytes(data, "little")) * _HASH_MULTIPLIER & _MASK
    else:
        for offset in range(0, length - 8, 8):
            value = (value ^ unpack(data, offset)[0]) * _HASH_MULTIPLIER & _MASK
            value ^= value >> 32
        value = (value ^ unpack(data, length - 8)[0]) * _HASH_MULTIPLIER & _MASK
    return value >> 32 ^ value >> 7 & 0xFFFFFFFF


def cython_declarations() -> str:
    """Return the layout as Cython source, for ``ext/layout.pxi``."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Layout of an image. Generated by `python -m sidecar.compile.layout`; do not edit.",
        "",
        "cdef enum:",
        f"    IMAGE_FORMAT_VERSION = {FORMAT_VERSION}",
        f"    IMAGE_ALIGNMENT = {ALIGNMENT}",
        f"    WILD_RUN = 0x{WILD_RUN:02X}",
        f"    WILD_CHAR = 0x{WILD_CHAR:02X}",
        *(f"    {name} = {number}" for name, number in CONSTANTS.items()),
        *(f"    KEY_{name} = {number}" for number, (name, _) in enumerate(BUILTIN_KEYS)),
        *(f"    SECTION_{name} = {number}" for number, (name, _) in enumerate(SECTIONS)),
        f"    SECTION_COUNT = {len(SECTIONS)}",
        "",
        f"cdef uint64_t IMAGE_MAGIC = 0x{int.from_bytes(MAGIC, 'little'):016X}",
        "",
    ]
    records = [HEADER, SECTION, POLICY_SET, *dict.fromkeys(record for _, record in SECTIONS if record.name)]
    for record in records:
        lines.append(f"cdef packed struct {record.name}:")
        for name, kind, meaning in record.fields:
            comment = f"  # {meaning}" if meaning else ""
            lines.append(f"    {_C_TYPES[kind]} {name}{comment}")
        lines.append("")
    words = {
        "RESERVED_KEYS": sorted(request.RESERVED_KEYS),
        "RESERVED_PREFIXES": list(request.RESERVED_PREFIXES),
        "REASON_WORDS": [member.word for member in Reason],
        "MFA_WORDS": [member.word for member in MfaMethod],
        "HTTP_METHODS": list(route.HTTP_METHODS),
    }
    sizes = ", ".join(str(record.struct.size) for _, record in SECTIONS)
    lines.append("cdef extern from *:")
    lines.append('    """')
    for name, values in words.items():
        quoted = ", ".join(f'"{value}"' for value in values)
        lines.append(f"    static const char *const {name}[] = {{{quoted}}};")
    lines.append(f"    static const uint32_t RECORD_SIZES[] = {{{sizes}}};")
    lines.append('    """')
    lines += [f"    const char *{name}[{len(values)}]" for name, values in words.items()]
    lines.append(f"    const uint32_t RECORD_SIZES[{len(SECTIONS)}]")
    lines.append("")
    lines.append("cdef enum:")
    lines += [f"    {name}_COUNT = {len(values)}" for name, values in words.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(cython_declarations(), end="")
