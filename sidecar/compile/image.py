# SPDX-License-Identifier: Apache-2.0
"""
From a checked snapshot to an image that the core decides from.

Each policy becomes rules, one for each service that a statement names, so that a request looks
only at the rules of its own service. The policies of a principal are merged ahead into one set, as are
those of each control level, and equal parts (texts, patterns, condition blocks, action sets) are
stored once.
"""

from __future__ import annotations

import ipaddress
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sidecar.compile import layout
from sidecar.compile.encoding import (
    PATTERN_EXACT,
    PATTERN_GLOB,
    WILD_CHAR,
    WILD_RUN,
    Encoded,
    encode_action,
    encode_arn_value,
    encode_piece,
    encode_resource,
    encode_string,
    pattern_kind,
)
from sidecar.compile.known_actions import KnownActions, glob
from sidecar.compile.layout import CONSTANTS, NONE, SECTION_NUMBERS, SECTIONS, hash_text
from sidecar.compile.route_image import RouteWriter
from sidecar.model.errors import PolicyError
from sidecar.model.policy import (
    ActionPattern,
    ArnPattern,
    Condition,
    Effect,
    Instant,
    Pattern,
    Piece,
    Policy,
    PrincipalKind,
    PrincipalPattern,
    Statement,
    ValueType,
    Variable,
)
from sidecar.model.request import is_reserved_key
from sidecar.model.snapshot import Account, Organization, OrganizationalUnit, Role, Snapshot, User

MAX_SECTION_RECORDS = 1 << 28

_BUILTIN_NUMBERS = {key: number for number, (_, key) in enumerate(layout.BUILTIN_KEYS) if key}
_SET_HEAD = layout.POLICY_SET.struct
_PACK_RULE = layout.RULE.struct.pack
_PACK_STATEMENT = layout.STATEMENT.struct.pack
_PACK_PATTERN = layout.PATTERN.struct.pack
_RULES = SECTION_NUMBERS["RULES"]
_STATEMENT_NAMES = SECTION_NUMBERS["STATEMENT_NAMES"]
_WIDE_BITS = CONSTANTS["WIDE_BITS"]
_RULE_DENY = CONSTANTS["RULE_DENY"]
_RULE_PRINCIPAL = CONSTANTS["RULE_PRINCIPAL"]
_RULE_NOT_PRINCIPAL = CONSTANTS["RULE_NOT_PRINCIPAL"]
_RULE_RESOURCE_ANY = CONSTANTS["RULE_RESOURCE_ANY"]
_RULE_RESOURCE_ONE = CONSTANTS["RULE_RESOURCE_ONE"]


def write_image(snapshot: Snapshot) -> bytes:
    """
    Compile *snapshot* into an image.

    The same snapshot gives the same bytes, so the hash of an image is the revision of its policies.

    Raises:
        PolicyError: A table would outgrow the format.
    """
    return _Writer(snapshot).write()


@dataclass(slots=True)
class _Index:
    """
    Rules of one policy, or of several, by service: packed references, those that deny apart.
    """

    denies: dict[int, bytes]
    allows: dict[int, bytes]
    any_denies: bytes = b""
    any_allows: bytes = b""
    allows_all: bool = False


class _Writer:
    """One compilation. Confined to the call of `write_image`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.data: list[bytearray] = [bytearray() for _ in SECTIONS]
        self.counts = [0] * len(SECTIONS)
        self.flags = 0
        self._strings: dict[bytes, int] = {}
        self._indexes: dict[tuple[str, int, bool], _Index] = {}
        self._sets: dict[tuple[int, ...], int] = {}
        self._keys: dict[str, int] = {}
        self._key_names: list[bytes] = []
        self._patterns: dict[tuple[Encoded, ...], tuple[int, int]] = {}
        self._blocks: dict[tuple[bytes, ...], int] = {}
        self._block_of: dict[tuple[int, ...], int] = {}
        self._tests: dict[tuple[object, ...], bytes] = {}
        self._action_parts: dict[
            tuple[tuple[int, ...], bool], tuple[list[tuple[int, int, int]], tuple[int, int] | None]
        ] = {}
        self._action_sets: dict[tuple[ActionPattern, ...], tuple[int, int]] = {}
        self._wide_actions: list[tuple[tuple[ActionPattern, ...], bool]] = []
        self._wide_sets: dict[tuple[tuple[ActionPattern, ...], bool], int] = {}
        # SAFETY: what these find by id lives as long as the snapshot, so an id names one thing.
        self._resource_sets: dict[tuple[int, ...], tuple[int, int]] = {}
        self._principal_entries: dict[tuple[PrincipalPattern, ...], tuple[int, int]] = {}
        self._users: dict[str, int] = {}
        self._roles: dict[tuple[str, str, str], int] = {}
        self._unique_ids: dict[str, int] = {}
        self._federated: dict[str, int] = {}
        self._accounts: dict[str, int] = {}
        self._partitions: dict[str, str] = {}
        self._resource_services = 0
        self._policy_count = 0
        self._statement_count = 0

    def write(self) -> bytes:
        snapshot = self.snapshot
        self._string(b"")
        self.actions = KnownActions(_statements(snapshot))
        self._number_accounts()
        self._number_principals()
        self._write_principals()
        self._write_accounts()
        self._write_resource_policies()
        if snapshot.session_policies is not None:
            self.flags |= CONSTANTS["IMAGE_SESSION_POLICIES"]
            self._append("SESSION_SETS", self._set(snapshot.session_policies).to_bytes(4, "little"))
        RouteWriter(append=self._append, text=self._text, table=self._hash_table).write(snapshot.routes)
        self._write_actions()
        self._write_keys()
        self._write_shadow()
        if snapshot.root_is_allowed:
            self.flags |= CONSTANTS["IMAGE_ROOT_ALLOWED"]
        return self._assemble()

    # Plain parts: sections, strings, tables.

    def _append(self, section: str, packed: bytes, count: int = 1) -> int:
        number = SECTION_NUMBERS[section]
        first = self.counts[number]
        self.data[number] += packed
        self.counts[number] = first + count
        return first

    def _string(self, text: bytes) -> int:
        offset = self._strings.get(text)
        if offset is None:
            strings = self.data[0]
            offset = self._strings[text] = len(strings)
            strings += text
        return offset

    def _text(self, text: str) -> tuple[int, int]:
        data = text.encode()
        return self._string(data), len(data)

    def _table(self, section: str, keys: Sequence[bytes]) -> None:
        self._hash_table(section, [hash_text(key) for key in keys])

    def _hash_table(self, section: str, hashes: Sequence[int]) -> None:
        size = 4
        while size < 2 * len(hashes) + 2:
            size *= 2
        slots = array("I", bytes(4 * size))
        mask = size - 1
        for number, found in enumerate(hashes, 1):
            slot = found & mask
            while slots[slot]:
                slot = slot + 1 & mask
            slots[slot] = number
        self._append(section, slots.tobytes(), size)

    # Actions.

    def _write_actions(self) -> None:
        """Write what is known of services and actions, last, when every wide set is."""
        pack_service, pack_action = layout.SERVICE.struct.pack, layout.ACTION.struct.pack
        names: list[bytes] = []
        packed: list[bytes] = []
        negated = sum(1 << number for number, (_, wide) in enumerate(self._wide_actions) if wide)
        for service, number in self.actions.services.items():
            self._append("SERVICES", pack_service(*self._text(service)))
            known = self.actions.names[service]
            held = self._held_by_wide(service)
            for bit, name in enumerate(known):
                full = f"{service}:{name}".encode()
                names.append(full)
                wide = negated ^ held.get(bit, 0)
                packed.append(pack_action(self._string(full), len(full), number, bit, wide & (1 << _WIDE_BITS) - 1))
        self._append("ACTIONS", b"".join(packed), len(packed))
        self._table("SERVICE_TABLE", [service.encode() for service in self.actions.services])
        self._table("ACTION_TABLE", names)

    def _held_by_wide(self, service: str) -> dict[int, int]:
        """Return, for each known action of *service*, which wide sets name it, negation left aside."""
        held: dict[int, int] = {}
        for number, (actions, _) in enumerate(self._wide_actions[:_WIDE_BITS]):
            for action in actions:
                if action.service == service:
                    bits = self.actions.bits(action)
                elif action.service == "*" and action.name == "*":
                    bits = (1 << len(self.actions.names[service])) - 1
                elif "*" in action.service or "?" in action.service:
                    bits = 0
                    for bit, name in enumerate(self.actions.names[service]):
                        bits |= glob(action.text, f"{service}:{name}") << bit
                else:
                    continue
                while bits:
                    lowest = (bits & -bits).bit_length() - 1
                    bits &= bits - 1
                    held[lowest] = held.get(lowest, 0) | 1 << number
        return held

    def _action_rules(self, statement: Statement) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
        """
        Return what *statement* says of actions: ``(service, flag, value)`` for each service, and for the
        rest ``(flag, value)`` or None.
        """
        key = tuple([id(action) for action in statement.actions]), statement.not_action
        found = self._action_parts.get(key)
        if found is None:
            found = self._action_parts[key] = self._make_action_rules(statement.actions, statement.not_action)
        return found

    def _make_action_rules(
        self, actions: tuple[ActionPattern, ...], negated: bool
    ) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
        if negated or any("*" in action.service or "?" in action.service for action in actions):
            return [], (CONSTANTS["RULE_ACTION_WIDE"], self._wide_set(actions, negated))
        rules = []
        for service, patterns in _by_service(actions).items():
            flag, value = self._action_set(service, patterns)
            rules.append((self.actions.services[service], flag, value))
        return rules, None

    def _action_set(self, service: str, patterns: tuple[ActionPattern, ...]) -> tuple[int, int]:
        found = self._action_sets.get(patterns)
        if found is not None:
            return found
        if any(pattern.name == "*" for pattern in patterns):
            found = CONSTANTS["RULE_ACTION_ALL"], 0
        elif len(patterns) == 1 and "*" not in patterns[0].name and "?" not in patterns[0].name:
            found = CONSTANTS["RULE_ACTION_ONE"], self.actions.numbers[service][patterns[0].name]
        else:
            found = CONSTANTS["RULE_ACTION_SET"], self._bit_set(service, patterns)
        self._action_sets[patterns] = found
        return found

    def _bit_set(self, service: str, patterns: tuple[ActionPattern, ...]) -> int:
        bits = 0
        globs = []
        for pattern in patterns:
            bits |= self.actions.bits(pattern)
            if "*" in pattern.name or "?" in pattern.name:
                globs.append(encode_action(pattern.name))
        words = (len(self.actions.names[service]) + 63) // 64
        first_word = self._append("ACTION_WORDS", bits.to_bytes(8 * words, "little"), words)
        first_glob, count = self._pattern_run(tuple(globs))
        return self._append("ACTION_SETS", layout.ACTION_SET.struct.pack(first_word, words, first_glob, count))

    def _wide_set(self, actions: tuple[ActionPattern, ...], negated: bool) -> int:
        key = actions, negated
        found = self._wide_sets.get(key)
        if found is not None:
            return found
        flags = CONSTANTS["WIDE_NEGATED"] if negated else 0
        narrow: list[ActionPattern] = []
        globs = []
        for action in actions:
            if action.service == "*" and action.name == "*":
                flags |= CONSTANTS["WIDE_ALL"]
            elif "*" in action.service or "?" in action.service:
                globs.append(encode_action(action.text))
            else:
                narrow.append(action)
        services = []
        for service, patterns in _by_service(narrow).items():
            everything = any(pattern.name == "*" for pattern in patterns)
            services.append((self.actions.services[service], NONE if everything else self._bit_set(service, patterns)))
        services.sort()
        pack = layout.WIDE_SERVICE.struct.pack
        first = self._append("WIDE_SERVICES", b"".join(pack(*service) for service in services), len(services))
        packed = layout.WIDE_SET.struct.pack(flags, first, len(services), *self._pattern_run(tuple(globs)))
        found = self._wide_sets[key] = self._append("WIDE_SETS", packed)
        self._wide_actions.append(key)
        return found

    # Patterns and templates.

    def _pattern_run(self, patterns: tuple[Encoded, ...]) -> tuple[int, int]:
        """Store encoded patterns one behind the other, equal runs once; return first and count."""
        if not patterns:
            return 0, 0
        found = self._patterns.get(patterns)
        if found is None:
            packed = b"".join([self._pack_pattern(pattern) for pattern in patterns])
            found = self._append("PATTERNS", packed, len(patterns)), len(patterns)
            self._patterns[patterns] = found
        return found

    def _pack_pattern(self, pattern: Encoded) -> bytes:
        kind, text = pattern
        if isinstance(text, tuple):
            first = self._append("PIECES", b"".join([self._pack_piece(piece) for piece in text]), len(text))
            return _PACK_PATTERN(first, 0, 0, kind, len(text))
        literal = len(text)
        if kind == PATTERN_GLOB:
            literal = min(place for place in (text.find(WILD_RUN), text.find(WILD_CHAR)) if place >= 0)
        return _PACK_PATTERN(self._string(text), len(text), literal, kind, 0)

    def _pack_piece(self, piece: Piece) -> bytes:
        pack = layout.PIECE.struct.pack
        if isinstance(piece, Variable):
            default = (piece.default or "").encode()
            return pack(self._key(piece.key), self._string(default), len(default), piece.default is not None)
        text = encode_piece(piece)
        return pack(NONE, self._string(text), len(text), 0)

    # Resources.

    def _resource_part(self, statement: Statement) -> tuple[int, int]:
        """Return the flags and the value of a rule for the resources of *statement*."""
        resources = statement.resources
        if resources is None:
            return _RULE_RESOURCE_ANY, 0
        key = tuple([id(resource) for resource in resources])
        found = self._resource_sets.get(key)
        if found is None:
            found = self._resource_sets[key] = self._resource_set(resources)
        if statement.not_resource:
            return found[0] | CONSTANTS["RULE_NOT_RESOURCE"], found[1]
        return found

    def _resource_set(self, resources: tuple[ArnPattern, ...]) -> tuple[int, int]:
        encoded = []
        for resource in resources:
            if not resource.fields:
                return _RULE_RESOURCE_ANY, 0
            encoded.append(encode_resource(resource))
        if len(encoded) > 1:
            encoded.sort(key=pattern_kind)
        first, count = self._pattern_run(tuple(encoded))
        if count == 1:
            return _RULE_RESOURCE_ONE, first
        return 0, self._append("RESOURCE_SETS", layout.RESOURCE_SET.struct.pack(first, count))

    # Conditions.

    def _key(self, key: str) -> int:
        number = self._keys.get(key)
        if number is None:
            number = self._keys[key] = len(self._keys)
            name = key.encode()
            self._key_names.append(name)
            if key.startswith("aws:principaltag/"):
                source, builtin = CONSTANTS["SOURCE_PRINCIPAL_TAG"], 0
            elif is_reserved_key(key):
                source, builtin = CONSTANTS["SOURCE_BUILTIN"], _BUILTIN_NUMBERS.get(key, 0)
            else:
                source, builtin = CONSTANTS["SOURCE_CONTEXT"], 0
            self._append("KEYS", layout.KEY.struct.pack(self._string(name), len(name), source, builtin))
        return number

    def _write_keys(self) -> None:
        self._table("KEY_TABLE", self._key_names)

    def _block(self, conditions: tuple[Condition, ...]) -> int:
        if not conditions:
            return NONE
        key = tuple([id(condition) for condition in conditions])
        number = self._block_of.get(key)
        if number is None:
            tests = tuple([self._test(condition) for condition in conditions])
            number = self._blocks.get(tests)
            if number is None:
                first = self._append("TESTS", b"".join(tests), len(tests))
                number = self._append("BLOCKS", layout.BLOCK.struct.pack(first, len(tests), 0))
                self._blocks[tests] = number
            self._block_of[key] = number
        return number

    def _test(self, condition: Condition) -> bytes:
        operator, qualifier, if_exists, key, values = condition
        name = operator.name, qualifier, if_exists, key, values
        found = self._tests.get(name)
        if found is None:
            found = self._tests[name] = self._make_test(condition)
        return found

    def _make_test(self, condition: Condition) -> bytes:
        operator = condition.operator
        flags = CONSTANTS["TEST_NEGATED"] if operator.negated else 0
        if condition.if_exists:
            flags |= CONSTANTS["TEST_IF_EXISTS"]
        first, count = 0, len(condition.values)
        kind = operator.value_type
        if kind is ValueType.NULL:
            if True in condition.values:
                flags |= CONSTANTS["TEST_EXPECT_NULL"]
            if False in condition.values:
                flags |= CONSTANTS["TEST_EXPECT_PRESENT"]
            count = 0
        elif kind in (ValueType.NUMERIC, ValueType.DATE):
            pack = layout.INSTANT.struct.pack
            packed = b"".join(pack(*value, 0) for value in condition.values if isinstance(value, Instant))
            first = self._append("INSTANTS", packed, count)
            if condition.key == "aws:multifactorauthage":
                flags |= CONSTANTS["TEST_MFA_AGE"]
        elif kind is ValueType.IP:
            first = self._append("NETWORKS", b"".join(_pack_network(value) for value in condition.values), count)
        elif kind is ValueType.BINARY:
            encoded = [(PATTERN_EXACT, value) for value in condition.values if isinstance(value, bytes)]
            first, count = self._pattern_run(tuple(encoded))
        else:
            patterns = [value for value in condition.values if isinstance(value, Pattern)]
            encode = encode_arn_value if kind is ValueType.ARN else encode_string
            first, count = self._pattern_run(tuple([encode(pattern) for pattern in patterns]))
        return layout.TEST.struct.pack(
            kind, operator.comparison, condition.qualifier, flags, self._key(condition.key), first, count
        )

    # Policies and sets of them.

    def _index(self, policy: Policy, *, with_principals: bool = True) -> _Index:
        # SAFETY: documents live as long as the snapshot, so an id names one of them.
        key = policy.name, id(policy.document), with_principals
        index = self._indexes.get(key)
        if index is None:
            index = self._indexes[key] = self._make_index(policy, with_principals)
        return index

    def _make_index(self, policy: Policy, with_principals: bool) -> _Index:
        index = _Index({}, {})
        statements = policy.document.statements
        self._policy_count += 1
        self._statement_count += len(statements)
        name = self._append("POLICY_NAMES", layout.POLICY_NAME.struct.pack(*self._text(policy.name)))
        number, rule = self.counts[_STATEMENT_NAMES], self.counts[_RULES]
        rules: list[bytes] = []
        names: list[bytes] = []
        for statement in statements:
            names.append(_PACK_STATEMENT(name, *self._text(statement.sid), statement.index))
            flags, resources = self._resource_part(statement)
            principals = principal_count = 0
            if with_principals and statement.principals is not None:
                flags |= _RULE_NOT_PRINCIPAL if statement.not_principal else _RULE_PRINCIPAL
                principals, principal_count = self._principals(statement.principals)
            block = self._block(statement.conditions)
            deny = statement.effect is Effect.DENY
            if deny:
                flags |= _RULE_DENY
            by_service, wide = self._action_rules(statement)
            target = index.denies if deny else index.allows
            for service, flag, value in by_service:
                rules.append(_PACK_RULE(number, value, resources, block, principals, principal_count, flags | flag))
                reference = rule.to_bytes(4, "little")
                rule += 1
                target[service] = target[service] + reference if service in target else reference
            if wide is not None:
                flag, value = wide
                rules.append(_PACK_RULE(number, value, resources, block, principals, principal_count, flags | flag))
                reference = rule.to_bytes(4, "little")
                rule += 1
                if deny:
                    index.any_denies += reference
                else:
                    index.any_allows += reference
                    if flags == _RULE_RESOURCE_ANY and block == NONE and _is_everything(statement):
                        index.allows_all = True
            number += 1
        self._append("STATEMENT_NAMES", b"".join(names), len(names))
        self._append("RULES", b"".join(rules), len(rules))
        return index

    def _set(self, policies: Sequence[Policy], *, with_principals: bool = True) -> int:
        indexes = [self._index(policy, with_principals=with_principals) for policy in policies]
        key = tuple([id(index) for index in indexes])
        number = self._sets.get(key)
        if number is None:
            number = self._sets[key] = self._make_set(indexes)
        return number

    def _make_set(self, indexes: Sequence[_Index]) -> int:
        if len(indexes) == 1:
            denies, allows = indexes[0].denies, indexes[0].allows
        else:
            denies, allows = {}, {}
            for index in indexes:
                for service, references in index.allows.items():
                    if service in allows:
                        allows[service] += references
                    else:
                        allows[service] = references
                for service, references in index.denies.items():
                    denies[service] = denies.get(service, b"") + references
        if denies:
            allows = dict(allows)
            for service, references in denies.items():
                allows[service] = references + allows.get(service, b"")
        any_denies = b"".join([index.any_denies for index in indexes])
        any_references = any_denies + b"".join([index.any_allows for index in indexes])
        services = sorted(allows)
        chunks = [allows[service] for service in services]
        entries = [size >> 2 for size in accumulate(map(len, chunks), initial=0)]
        place = entries[-1]
        deny_services = 0
        for service, references in denies.items():
            entries[bisect_left(services, service)] |= len(references) << 14
            deny_services |= 1 << (service & 31)
        if place > 0xFFFF:
            raise PolicyError("the policies of one principal hold more than 65535 rules")
        flags = CONSTANTS["SET_ALLOWS_ALL"] if any(index.allows_all for index in indexes) else 0
        count = len(services)
        numbers = array("H", services)
        if count & 1:
            numbers.append(0)
        first_entry = 8 + (count + 1) // 2
        first_any = first_entry + count + 1
        used = first_any + (len(any_references) >> 2) + place
        words = -(-used // layout.SET_ALIGNMENT) * layout.SET_ALIGNMENT
        packed = b"".join(
            [
                _SET_HEAD.pack(
                    words,
                    flags,
                    count,
                    first_entry,
                    first_any,
                    len(any_denies) >> 2,
                    len(any_references) >> 2,
                    deny_services,
                ),
                numbers.tobytes(),
                array("I", entries).tobytes(),
                any_references,
                *chunks,
                bytes(4 * (words - used)),
            ]
        )
        return self._append("SETS", packed, words)

    # Principals.

    def _number_accounts(self) -> None:
        ids: dict[str, None] = {}
        for account in self.snapshot.accounts:
            ids[account.id] = None
            self._partitions[account.id] = account.partition
        if self.snapshot.organization is not None:
            ids[self.snapshot.organization.management_account] = None
            for account_id, _ in _placements(self.snapshot.organization):
                ids[account_id] = None
        for resource in self.snapshot.resource_policies:
            ids[resource.account or resource.arn.split(":", 5)[4]] = None
        self._accounts = {account: number for number, account in enumerate(ids)}

    def _number_principals(self) -> None:
        number = 0
        for account in self.snapshot.accounts:
            for user in account.users:
                self._users[user.arn] = number
                if user.user_id:
                    self._unique_ids[user.user_id] = number
                number += 1
            for role in account.roles:
                self._roles[(account.partition, account.id, role.name)] = number
                if role.role_id:
                    self._unique_ids[role.role_id] = number
                number += 1
            number += 1  # its root
        for federated in self.snapshot.federated_users:
            self._federated[federated.arn] = number
            number += 1

    def _write_principals(self) -> None:
        keys: list[bytes] = []
        trust_keys: list[bytes] = []
        for account in self.snapshot.accounts:
            for user in account.users:
                keys.append(self._write_user(account, user))
            for role in account.roles:
                keys.append(self._write_role(account, role))
            keys.append(self._write_root(account))
        for federated in self.snapshot.federated_users:
            keys.append(self._write_federated(federated.arn, federated.account, federated.name, federated.user_arn))
        self._table("PRINCIPAL_TABLE", keys)
        for account in self.snapshot.accounts:
            for role in account.roles:
                arn = role.arn.encode()
                trust_keys.append(arn)
                packed = layout.ROLE_TRUST.struct.pack(
                    self._string(arn),
                    len(arn),
                    self._set([role.trust]),
                    self._roles[(account.partition, account.id, role.name)],
                    role.max_session_duration,
                )
                self._append("ROLE_TRUSTS", packed)
        self._table("ROLE_TRUST_TABLE", trust_keys)

    def _write_user(self, account: Account, user: User) -> bytes:
        key = user.arn.encode()
        self._principal(
            key,
            "CALLER_USER",
            0,
            account.id,
            user.policies,
            user.boundary,
            user.arn,
            user.name,
            user.user_id,
            user.tags,
        )
        return key

    def _write_role(self, account: Account, role: Role) -> bytes:
        key = f"arn:{account.partition}:sts::{account.id}:assumed-role/{role.name}".encode()
        flags = CONSTANTS["PRINCIPAL_SERVICE_LINKED"] if role.is_service_linked else 0
        self._principal(
            key,
            "CALLER_ROLE",
            flags,
            account.id,
            role.policies,
            role.boundary,
            role.arn,
            role.name,
            role.role_id,
            role.tags,
        )
        return key

    def _write_root(self, account: Account) -> bytes:
        arn = f"arn:{account.partition}:iam::{account.id}:root"
        self._principal(arn.encode(), "CALLER_ROOT", 0, account.id, (), None, arn, "", account.id, {})
        return arn.encode()

    def _write_federated(self, arn: str, account: str, name: str, user_arn: str) -> bytes:
        parent = self._users.get(user_arn)
        if parent is None:
            raise PolicyError(f"federated user `{arn}` belongs to `{user_arn}`, which is not in the snapshot")
        user = next(user for found in self.snapshot.accounts for user in found.users if user.arn == user_arn)
        self._principal(
            arn.encode(),
            "CALLER_FEDERATED_USER",
            0,
            account,
            user.policies,
            user.boundary,
            arn,
            name,
            f"{account}:{name}",
            user.tags,
            parent,
        )
        return arn.encode()

    def _principal(
        self,
        key: bytes,
        kind: str,
        flags: int,
        account: str,
        policies: Sequence[Policy],
        boundary: Policy | None,
        arn: str,
        name: str,
        unique_id: str,
        tags: object,
        parent: int = NONE,
    ) -> None:
        pack_tag = layout.TAG.struct.pack
        packed_tags = []
        if isinstance(tags, dict) and tags:
            by_key = sorted((self._key("aws:principaltag/" + tag.lower()), value) for tag, value in tags.items())
            packed_tags = [pack_tag(number, *self._text(value)) for number, value in by_key]
        first_tag = self._append("TAGS", b"".join(packed_tags), len(packed_tags))
        self._append(
            "PRINCIPALS",
            layout.PRINCIPAL.struct.pack(
                self._string(key),
                len(key),
                CONSTANTS[kind],
                flags,
                self._accounts[account],
                self._set(policies),
                NONE if boundary is None else self._set([boundary]),
                parent,
                *self._text(arn),
                *self._text(name),
                *self._text(unique_id),
                first_tag,
                len(packed_tags),
            ),
        )

    def _principals(self, principals: tuple[PrincipalPattern, ...]) -> tuple[int, int]:
        found = self._principal_entries.get(principals)
        if found is None:
            packed = [self._principal_entry(principal) for principal in principals]
            if len(packed) > 0xFFFF:
                raise PolicyError("more than 65535 principals in one statement")
            found = self._append("PRINCIPAL_ENTRIES", b"".join(packed), len(packed)), len(packed)
            self._principal_entries[principals] = found
        return found

    def _principal_entry(self, principal: PrincipalPattern) -> bytes:
        """
        Pack one entry. Whoever is not in the snapshot cannot call, so such an entry names nobody.
        """
        pack = layout.PRINCIPAL_ENTRY.struct.pack
        never = pack(CONSTANTS["ENTRY_NEVER"], 0, 0, 0)
        kind = principal.kind
        if kind is PrincipalKind.ANY:
            return pack(CONSTANTS["ENTRY_ANY"], 0, 0, 0)
        if kind is PrincipalKind.SERVICE:
            return pack(CONSTANTS["ENTRY_SERVICE"], 0, *self._text(principal.name))
        if kind is PrincipalKind.ACCOUNT:
            partition = self._partitions.get(principal.account)
            if partition is None or principal.partition not in ("", partition):
                return never
            return pack(CONSTANTS["ENTRY_ACCOUNT"], self._accounts[principal.account], 0, 0)
        number: int | None = None
        if kind is PrincipalKind.USER:
            number = self._users.get(principal.name)
        elif kind is PrincipalKind.FEDERATED_USER:
            number = self._federated.get(principal.text)
        elif kind is PrincipalKind.UNIQUE_ID:
            number = self._unique_ids.get(principal.name)
        elif kind is PrincipalKind.ROLE:
            number = self._roles.get((principal.partition, principal.account, principal.name))
        elif kind is PrincipalKind.ROLE_SESSION:
            role, _, session = principal.name.partition("/")
            number = self._roles.get((principal.partition, principal.account, role))
            if number is not None:
                return pack(CONSTANTS["ENTRY_SESSION"], number, *self._text(session))
        return never if number is None else pack(CONSTANTS["ENTRY_PRINCIPAL"], number, 0, 0)

    # Accounts and the organization.

    def _write_accounts(self) -> None:
        organization = self.snapshot.organization
        if organization is not None:
            self.flags |= CONSTANTS["IMAGE_HAS_ORGANIZATION"]
            self._string(organization.id.encode())
        places = dict(_placements(organization)) if organization is not None else {}
        known = {account.id: account for account in self.snapshot.accounts}
        for account in self._accounts:
            self._append("ACCOUNT_DETAILS", self._account_details(known.get(account)))
            flags = CONSTANTS["ACCOUNT_KNOWN"] if account in known else 0
            path, levels, service_control, resource_control = "", b"", NONE, NONE
            place = places.get(account)
            if organization is not None and place is not None:
                flags |= CONSTANTS["ACCOUNT_IN_ORGANIZATION"]
                path = f"{organization.id}/" + "".join(f"{unit}/" for unit in place.units)
                if account == organization.management_account:
                    flags |= CONSTANTS["ACCOUNT_MANAGEMENT"]
                else:
                    levels, service_control, resource_control = self._control(place)
            first = self._append("LEVELS", levels, len(levels) // 4)
            packed = layout.ACCOUNT.struct.pack(
                *self._text(account),
                flags,
                *self._text(self._partitions.get(account, "aws")),
                *self._text(path),
                first,
                len(levels) // 4,
                service_control,
                resource_control,
            )
            self._append("ACCOUNTS", packed)
        self._table("ACCOUNT_TABLE", [account.encode() for account in self._accounts])

    def _account_details(self, account: Account | None) -> bytes:
        """Pack what is known of *account* beside its policies; None: it has no dump."""
        pack = layout.ACCOUNT_DETAILS.struct.pack
        alias = self._text(account.alias if account is not None else "")
        policy = account.password_policy if account is not None else None
        if policy is None:
            return pack(*alias, 0, 0, 0, 0)
        flags = CONSTANTS["PASSWORD_POLICY"]
        for name, is_set in (
            ("PASSWORD_SYMBOLS", policy.require_symbols),
            ("PASSWORD_NUMBERS", policy.require_numbers),
            ("PASSWORD_UPPERCASE", policy.require_uppercase_characters),
            ("PASSWORD_LOWERCASE", policy.require_lowercase_characters),
            ("PASSWORD_OWN_CHANGE", policy.allow_users_to_change_password),
            ("PASSWORD_HARD_EXPIRY", policy.hard_expiry),
        ):
            flags |= CONSTANTS[name] if is_set else 0
        return pack(
            *alias,
            flags,
            policy.minimum_password_length,
            policy.max_password_age or 0,
            policy.password_reuse_prevention or 0,
        )

    def _control(self, place: _Place) -> tuple[bytes, int, int]:
        """Return the levels that do not allow everything, and the sets of all statements."""
        levels = b""
        every: list[Policy] = []
        for policies in place.service_control:
            if policies is None:
                continue
            every.extend(policies)
            if not any(self._index(policy).allows_all for policy in policies):
                levels += self._set(policies).to_bytes(4, "little")
        service_control = self._set(every) if every else NONE
        resource_control = NONE
        if place.resource_control:
            resource_control = self._set(place.resource_control, with_principals=False)
        return levels, service_control, resource_control

    # Resource policies.

    def _write_resource_policies(self) -> None:
        exact: list[bytes] = []
        wildcard: list[bytes] = []
        for resource in self.snapshot.resource_policies:
            ends_wild = resource.arn.endswith("*")
            text = resource.arn.rstrip("*").encode()
            fields = resource.arn.split(":", 5)
            account = self._accounts[resource.account or fields[4]]
            self._resource_services |= 1 << (hash_text(fields[2].encode()) & 63)
            packed = layout.RESOURCE_POLICY.struct.pack(
                self._string(text), len(text), self._set([resource.policy]), account
            )
            self._append("WILDCARD_POLICIES" if ends_wild else "RESOURCE_POLICIES", packed)
            (wildcard if ends_wild else exact).append(text)
        self._table("RESOURCE_POLICY_TABLE", exact)
        self._table("WILDCARD_POLICY_TABLE", wildcard)
        lengths = sorted({len(text) for text in wildcard}, reverse=True)
        self._append("WILDCARD_LENGTHS", array("I", lengths).tobytes(), len(lengths))

    # What stands in shadow.

    def _write_shadow(self) -> None:
        shadow = self.snapshot.shadow
        if shadow is None:
            return
        pack = layout.SHADOW.struct.pack
        entries = sorted(shadow.entries, key=lambda entry: (entry.until, entry.kind, entry.id))
        packed = [pack(*self._text(entry.id), entry.until, entry.kind, 0) for entry in entries]
        self._append("SHADOW", b"".join(packed), len(packed))
        image = write_image(shadow.snapshot)
        self._append("SHADOW_IMAGE", image, len(image))

    # The block.

    def _assemble(self) -> bytes:
        header, entry = layout.HEADER.struct, layout.SECTION.struct
        self.counts[SECTION_NUMBERS["STRINGS"]] = len(self.data[SECTION_NUMBERS["STRINGS"]])
        place = header.size + entry.size * len(SECTIONS)
        table = bytearray()
        body: list[bytes] = []
        end = place
        for number, (name, record) in enumerate(SECTIONS):
            if self.counts[number] >= MAX_SECTION_RECORDS or len(self.data[number]) >= NONE:
                raise PolicyError(f"the snapshot is too large: section {name.lower()} does not fit an image")
            start = -(-end // layout.ALIGNMENT) * layout.ALIGNMENT
            body.append(bytes(start - end))
            body.append(bytes(self.data[number]))
            end = start + len(self.data[number])
            table += entry.pack(number, record.struct.size, start, self.counts[number])
        rest = b"".join([bytes(table), *body])
        organization = self.snapshot.organization
        organization_id = organization.id.encode() if organization is not None else b""
        accounts = self.snapshot.accounts
        packed = header.pack(
            int.from_bytes(layout.MAGIC, "little"),
            layout.FORMAT_VERSION,
            len(SECTIONS),
            end,
            zlib.crc32(rest),
            self.flags,
            self._strings[organization_id],
            len(organization_id),
            self._accounts[accounts[0].id] if len(accounts) == 1 else NONE,
            sum(len(account.users) + len(account.roles) for account in accounts),
            self._policy_count,
            self._statement_count,
            self._resource_services,
        )
        return packed + rest


@dataclass(slots=True)
class _Place:
    """Where an account stands: units from the root down, and what is attached on the way."""

    units: list[str]
    service_control: list[tuple[Policy, ...] | None]
    resource_control: list[Policy]


def _placements(organization: Organization) -> Iterator[tuple[str, _Place]]:
    """Yield every account of *organization* with its place."""
    stack: list[tuple[OrganizationalUnit, _Place]] = [(organization.root, _Place([], [], []))]
    while stack:
        unit, above = stack.pop()
        here = _Place(
            [*above.units, unit.id],
            [*above.service_control, unit.service_control_policies],
            [*above.resource_control, *unit.resource_control_policies],
        )
        for account in unit.accounts:
            yield (
                account.id,
                _Place(
                    here.units,
                    [*here.service_control, account.service_control_policies],
                    [*here.resource_control, *account.resource_control_policies],
                ),
            )
        stack.extend((child, here) for child in unit.units)


def _policies(snapshot: Snapshot) -> Iterator[Policy]:
    for account in snapshot.accounts:
        for user in account.users:
            yield from user.policies
            if user.boundary is not None:
                yield user.boundary
        for role in account.roles:
            yield role.trust
            yield from role.policies
            if role.boundary is not None:
                yield role.boundary
    for resource in snapshot.resource_policies:
        yield resource.policy
    yield from snapshot.session_policies or ()
    if snapshot.organization is not None:
        for _, place in _placements(snapshot.organization):
            for level in place.service_control:
                yield from level or ()
            yield from place.resource_control


def _statements(snapshot: Snapshot) -> Iterator[Statement]:
    """Yield the statements of every policy in *snapshot*, of a shared policy once."""
    seen: set[int] = set()
    for policy in _policies(snapshot):
        if id(policy) not in seen:
            seen.add(id(policy))
            yield from policy.document.statements


def _by_service(actions: Iterable[ActionPattern]) -> dict[str, tuple[ActionPattern, ...]]:
    found: dict[str, list[ActionPattern]] = {}
    for action in actions:
        found.setdefault(action.service, []).append(action)
    return {service: tuple(patterns) for service, patterns in found.items()}


def _is_everything(statement: Statement) -> bool:
    """Say whether the actions of *statement* are all actions."""
    return not statement.not_action and any(action.text == "*" for action in statement.actions)


def _pack_network(value: object) -> bytes:
    if not isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        raise TypeError(f"not a network: {value!r}")
    number = int(value.network_address)
    return layout.NETWORK.struct.pack(number >> 64, number & (1 << 64) - 1, value.version, value.prefixlen)
