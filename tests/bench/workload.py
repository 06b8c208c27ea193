# SPDX-License-Identifier: Apache-2.0
"""
Requests for the benchmarks: all different, spread evenly over all principals, in a fixed mix.

The mix is 40 % allowed, 30 % denied implicitly and 30 % explicitly; half of the denials would be
an allow with MFA. Candidates are made from the statements that a principal has (an action, a
resource and a context that satisfy one of them, or fall just beside it), and the engine says what
became of each. The result is kept in a file, each request as a serialized ``AuthorizeRequest``
behind its length in four bytes, little-endian.
"""

from __future__ import annotations

import argparse
import fnmatch
import ipaddress
import random
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from sidecar.core import Image, authorize
from sidecar.model.errors import RequestError
from sidecar.model.request import AuthorizationRequest, ContextValue, is_reserved_key
from sidecar.wire.sidecar.v1 import authorization_pb2 as wire
from tests.bench.generate import (
    ACCOUNTS,
    KINDS,
    ORGANIZATION,
    PROJECTS,
    REGIONS,
    TEAMS,
    Estate,
    Json,
    Person,
    Scale,
    as_list,
    generate,
    literal_actions,
    managed_policies,
)

#: The moment at which every request of the benchmarks is decided.
NOW = 1_800_000_000

#: Answers a serialized request with a serialized response.
Engine = Callable[[bytes], bytes]


class Outcome(StrEnum):
    """What a request of the mix is there for."""

    ALLOW = "allow"
    IMPLICIT = "implicit deny"
    IMPLICIT_MFA = "implicit deny, allowed with mfa"
    EXPLICIT = "explicit deny"
    EXPLICIT_MFA = "explicit deny, allowed with mfa"


#: Two tens; a principal takes one or the other, so that all of them together make the mix.
_TENS = (
    (
        *(Outcome.ALLOW,) * 4,
        *(Outcome.IMPLICIT,) * 2,
        Outcome.IMPLICIT_MFA,
        *(Outcome.EXPLICIT,) * 2,
        Outcome.EXPLICIT_MFA,
    ),
    (
        *(Outcome.ALLOW,) * 4,
        Outcome.IMPLICIT,
        *(Outcome.IMPLICIT_MFA,) * 2,
        Outcome.EXPLICIT,
        *(Outcome.EXPLICIT_MFA,) * 2,
    ),
)

_VARIABLE = re.compile(r"\$\{([^}]*)\}")

#: Keys that a request may carry beside those that its statement asks for.
_EXTRAS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("aws:UserAgent", ("Boto3/1.40.2 md/Botocore#1.40.2", "aws-cli/2.28.1", "orders/4.2")),
    ("aws:SourceVpc", ("vpc-0a1b2c3d4e5f60718", "vpc-1122334455667788a")),
    ("aws:SourceVpce", ("vpce-0f0e0d0c0b0a09080",)),
    ("aws:Referer", ("https://console.example.com/",)),
    ("aws:ResourceTag/team", TEAMS),
    ("aws:ResourceTag/stage", ("dev", "test", "prod")),
    ("aws:ResourceTag/project", PROJECTS),
    ("aws:RequestTag/project", PROJECTS),
    ("aws:RequestTag/cost-center", ("1000", "2000", "4100")),
    ("ec2:InstanceType", ("t3.micro", "m6i.large")),
    ("s3:prefix", tuple(f"{project}/2027/" for project in PROJECTS)),
    ("s3:TlsVersion", ("1.2", "1.3")),
    ("kms:ViaService", ("s3.eu-central-1.amazonaws.com", "sqs.eu-central-1.amazonaws.com")),
    ("payments:Amount", ("49.90", "120", "2500")),
)


@lru_cache(maxsize=65536)
def _actions(pattern: str) -> tuple[str, ...]:
    """Real actions that *pattern* matches; one that is made up where there are none."""
    if "*" not in pattern and "?" not in pattern:
        return (pattern,)
    service = pattern.split(":", maxsplit=1)[0].lower()
    known = literal_actions()
    if pattern == "*":
        return tuple(action for actions in known.values() for action in actions[:3])
    found = tuple(a for a in known.get(service, ()) if fnmatch.fnmatchcase(a.lower(), pattern.lower()))
    return found or (pattern.replace("*", "Something").replace("?", "X"),)


@lru_cache(maxsize=1)
def _all_actions() -> tuple[str, ...]:
    return tuple(action for actions in literal_actions().values() for action in actions)


def _asks_for_mfa(statement: Json) -> bool:
    lines = statement.get("Condition", {}).values()
    return any(key.lower().startswith(("aws:multifactorauth", "sidecar:mfa")) for line in lines for key in line)


class _Candidates:
    """Makes requests that are likely to have a wanted outcome. Confined to one thread."""

    def __init__(self, estate: Estate, seed: int) -> None:
        self.estate = estate
        self.random = random.Random(seed)
        self._kinds: dict[str, dict[tuple[str, bool], tuple[list[Json], list[tuple[str, Json]]]]] = {}

    def statements(self, person: Person, effect: str, mfa: bool) -> tuple[list[Json], list[tuple[str, Json]]]:
        """Statements of *person*, and those of resources that name it: of one effect, and about MFA or not."""
        kinds = self._kinds.get(person.arn)
        if kinds is None:
            kinds = {(e, m): ([], []) for e in ("Allow", "Deny") for m in (False, True)}
            for statement in person.statements:
                kinds[statement["Effect"], _asks_for_mfa(statement)][0].append(statement)
            for arn, statement in person.resource_statements:
                kinds[statement["Effect"], _asks_for_mfa(statement)][1].append((arn, statement))
            self._kinds[person.arn] = kinds
        return kinds[effect, mfa]

    def token(self) -> str:
        return f"{self.random.choice(TEAMS)}-{self.random.randrange(10**6):06d}"

    def substitute(self, text: str, person: Person) -> str | None:
        """*text* with its variables replaced, or None where one has no value."""
        missing = False

        def value(match: re.Match[str]) -> str:
            nonlocal missing
            key, _, default = match[1].partition(",")
            lowered = key.strip().lower()
            if lowered in {"*", "?", "$"}:
                return lowered
            if lowered == "aws:username" and person.is_user:
                return person.name
            if lowered.startswith("aws:principaltag/"):
                tag = person.tags.get(lowered.partition("/")[2])
                if tag is not None:
                    return tag
            if lowered in {"aws:principalaccount", "aws:resourceaccount"}:
                return person.account
            if lowered in {"aws:principalorgid", "aws:resourceorgid"}:
                return ORGANIZATION
            missing = missing or not default
            return default.strip().strip("'")

        result = _VARIABLE.sub(value, text) if "${" in text else text
        return None if missing else result

    def concrete(self, pattern: str, person: Person) -> str | None:
        """Text that *pattern*, a glob with variables, matches."""
        text = self.substitute(pattern, person)
        if text is None:
            return None
        while "*" in text:
            text = text.replace("*", self.token(), 1)
        return text.replace("?", "7")

    def arn(self, service: str, account: str) -> str:
        """Some resource of *service*."""
        templates = [template for name, template, _ in KINDS if name == service]
        if templates:
            text = self.random.choice(templates).format(
                account=account,
                region=self.random.choice(REGIONS[:2]),
                team=self.random.choice(TEAMS),
                project=self.random.choice(PROJECTS),
                n=f"{self.random.randrange(10**5):05d}",
                uuid=f"{self.random.randrange(16**8):08x}-0000-4000-a000-000000000000",
                hex=f"{self.random.randrange(16**8):08x}",
            )
            return text.replace("*", self.token())
        region = "" if service in {"iam", "cloudfront", "route53", "organizations"} else self.random.choice(REGIONS[:2])
        return f"arn:aws:{service}:{region}:{account}:{self.random.choice(('item', 'thing', 'task'))}/{self.token()}"

    def resource(self, statement: Json, action: str, person: Person) -> str | None:
        """A resource that *statement* covers, for *action*."""
        service = action.split(":", maxsplit=1)[0].lower()
        if "Resource" not in statement:
            return self.arn(service, person.account)
        pattern = self.random.choice(as_list(statement["Resource"]))
        if pattern == "*":
            return "*" if self.random.random() < 0.35 else self.arn(service, person.account)
        fields = pattern.split(":", 5)
        if len(fields) < 6:
            return None
        if fields[1] in {"*", "aws*"}:
            fields[1] = "aws"
        if "*" in fields[3]:
            fields[3] = self.random.choice(REGIONS[:2])
        if "*" in fields[4]:
            fields[4] = person.account
        return self.concrete(":".join(fields), person)

    def context(self) -> dict[str, tuple[str, ContextValue]]:
        """What every request carries, by lower-case key."""
        address = self.random.choice(("203.0.113.{}", "198.51.100.{}", "10.20.30.{}", "10.1.2.{}"))
        values = {
            "aws:SourceIp": address.format(self.random.randrange(1, 255)),
            "aws:SecureTransport": "true",
            "aws:RequestedRegion": self.random.choice(REGIONS[:2]),
        }
        for key, choices in self.random.sample(_EXTRAS, self.random.choice((0, 0, 1, 2, 2, 3, 4, 5, 6))):
            values[key] = self.random.choice(choices)
        return {key.lower(): (key, ContextValue((value,))) for key, value in values.items()}

    def satisfy(self, statement: Json, person: Person, context: dict[str, tuple[str, ContextValue]]) -> None:
        """Fill *context* so that the conditions of *statement* hold, as far as a caller can bring that about."""
        for operator, lines in statement.get("Condition", {}).items():
            quantifier, _, rest = operator.rpartition(":")
            base = rest.removesuffix("IfExists")
            for key, raw in lines.items():
                if is_reserved_key(key):
                    continue
                policy = [str(value).lower() if isinstance(value, bool) else str(value) for value in as_list(raw)]
                value = self.value(base, self.random.choice(policy), person)
                if value is None:
                    if base in {"Null", "StringNotEquals", "StringNotLike"}:
                        context.pop(key.lower(), None)
                    continue
                context[key.lower()] = (key, ContextValue((value,), multivalued=bool(quantifier)))

    def value(self, base: str, wanted: str, person: Person) -> str | None:
        """A value for which the operator *base* holds against *wanted*; None where absence is the better choice."""
        if base == "Null":
            return None if wanted == "true" else self.token()
        if base.startswith(("Numeric", "Date")):
            if base.startswith("Date") and not wanted.isdigit():
                return wanted if base.endswith("Equals") and "Not" not in base else None
            number = float(wanted)
            step = 0 if base.endswith("Equals") and "Not" not in base else 1
            number += -step if "Less" in base else step
            return f"{number:g}" if number < 10**6 else str(int(number))
        if base == "Bool":
            return self.substitute(wanted, person)
        if base == "IpAddress":
            network = ipaddress.ip_network(wanted, strict=False)
            return str(network[self.random.randrange(min(network.num_addresses, 250))])
        if base == "NotIpAddress":
            return f"100.64.{self.random.randrange(256)}.{self.random.randrange(256)}"
        if "Not" in base:
            return self.token() if self.random.random() < 0.7 else None
        if base.startswith("Arn"):
            fields = wanted.split(":", 5)
            if len(fields) == 6:
                fields[1:5] = [
                    field if field and "*" not in field else choice
                    for field, choice in zip(fields[1:5], ("aws", "sns", REGIONS[0], person.account), strict=True)
                ]
                wanted = ":".join(fields)
        if base in {"StringEquals", "StringEqualsIgnoreCase"}:
            return self.substitute(wanted, person)
        return self.concrete(wanted, person)

    def from_statement(self, statement: Json, person: Person, resource: str = "") -> AuthorizationRequest | None:
        """A request to which *statement* applies, if all goes well; *resource* is where it is attached."""
        if "Action" in statement:
            action = self.random.choice(_actions(self.random.choice(as_list(statement["Action"]))))
        else:
            action = self.random.choice(_all_actions())
        if resource:
            below = resource.startswith("arn:aws:s3") and self.random.random() < 0.8
            target: str | None = f"{resource}/{self.token()}" if below else resource
        else:
            target = self.resource(statement, action, person)
        if target is None:
            return None
        context = self.context()
        self.satisfy(statement, person, context)
        return self.request(person, action, target, context)

    def request(
        self, person: Person, action: str, resource: str, context: dict[str, tuple[str, ContextValue]]
    ) -> AuthorizationRequest:
        owned = resource != "*" and resource.count(":") >= 5 and not resource.split(":")[4]
        listed = resource.startswith("arn:aws:s3:::company-")
        return AuthorizationRequest(
            principal=person.caller,
            action=action,
            resource=resource,
            context=dict(context.values()),
            resource_account=person.account if owned and not listed else "",
        )

    def managed_statement(self, person: Person) -> Json:
        policy = managed_policies()[self.random.choice(person.managed)]
        statement: Json = self.random.choice(as_list(policy["Document"]["Statement"]))
        return statement

    def choose(self, person: Person, wanted: Outcome) -> AuthorizationRequest | None:
        """One try at a request of *person* with the outcome *wanted*."""
        mfa = wanted in {Outcome.IMPLICIT_MFA, Outcome.EXPLICIT_MFA}
        effect = "Deny" if wanted in {Outcome.EXPLICIT, Outcome.EXPLICIT_MFA} else "Allow"
        own, attached = self.statements(person, effect, mfa)
        lot = self.random.random()
        if mfa:
            return self.from_statement(self.random.choice(own), person) if own else None
        if wanted is Outcome.ALLOW:
            if lot < 0.15 and attached:
                arn, statement = self.random.choice(attached)
                return self.from_statement(statement, person, arn)
            if lot < 0.35 and own:
                return self.from_statement(self.random.choice(own), person)
            return self.from_statement(self.managed_statement(person), person)
        if wanted is Outcome.EXPLICIT:
            if lot < 0.2 and attached:
                arn, statement = self.random.choice(attached)
                return self.from_statement(statement, person, arn)
            if lot < 0.4:
                return self.from_statement(self.random.choice(self.estate.organization_denies), person)
            return self.from_statement(self.random.choice(own), person) if own else None
        if lot < 0.6:
            action = self.random.choice(_all_actions())
            everywhere = self.random.random() < 0.3
            resource = "*" if everywhere else self.arn(action.split(":")[0].lower(), person.account)
            return self.request(person, action, resource, self.context())
        if lot < 0.8:
            other = self.random.choice(self.estate.people)
            theirs = [s for s in other.statements if s["Effect"] == "Allow"]
            return self.from_statement(self.random.choice(theirs), person) if theirs else None
        candidate = self.from_statement(self.managed_statement(person), person)
        if candidate is None or person.account not in candidate.resource:
            return candidate
        foreign = self.random.choice([account for account in ACCOUNTS if account != person.account])
        return AuthorizationRequest(
            principal=candidate.principal,
            action=candidate.action,
            resource=candidate.resource.replace(person.account, foreign),
            context=candidate.context,
        )


def encode(request: AuthorizationRequest) -> bytes:
    """*request* as a serialized ``AuthorizeRequest``."""
    message = wire.AuthorizeRequest(
        principal=request.principal,
        action=request.action,
        resource=request.resource,
        resource_account=request.resource_account,
    )
    for key, value in request.context.items():
        entry = message.context[key]
        entry.values.extend(value.values)
        entry.multivalued = value.multivalued
    return message.SerializeToString(deterministic=True)


def outcome(response: bytes) -> Outcome | None:
    """What a serialized ``AuthorizeResponse`` says, in terms of the mix."""
    answer = wire.AuthorizeResponse.FromString(response)
    if answer.decision == wire.DECISION_ALLOW:
        return Outcome.ALLOW
    mfa = answer.HasField("mfa_requirement")
    if answer.decision == wire.DECISION_EXPLICIT_DENY:
        return Outcome.EXPLICIT_MFA if mfa else Outcome.EXPLICIT
    if answer.decision == wire.DECISION_IMPLICIT_DENY and answer.reason != "unknown_principal":
        return Outcome.IMPLICIT_MFA if mfa else Outcome.IMPLICIT
    return None


def requests(estate: Estate, engine: Engine, *, seed: int = 1, count: int = 100_000) -> list[tuple[Outcome, bytes]]:
    """
    *count* different requests in the mix, in random order, each principal with as many as any other.

    Args:
        engine: Decides a request under the compiled *estate*, at the moment ``NOW``.

    Raises:
        ValueError: The engine does not give the outcomes of the mix, so it decides under something else.
    """
    candidates = _Candidates(estate, seed)
    people = list(estate.people)
    candidates.random.shuffle(people)
    result: list[tuple[Outcome, bytes]] = []
    seen: set[bytes] = set()

    def find(person: Person, wanted: Outcome, tries: int) -> bool:
        for _ in range(tries):
            candidate = candidates.choose(person, wanted)
            if candidate is None:
                continue
            data = encode(candidate)
            if data not in seen and answered(data) is wanted:
                seen.add(data)
                result.append((wanted, data))
                return True
        return False

    def answered(data: bytes) -> Outcome | None:
        try:
            return outcome(engine(data))
        except RequestError:
            # Some statements of AWS have resources that no request can name.
            return None

    for number in range(count):
        place, row = number % len(people), number // len(people)
        # The two tens alternate from principal to principal and, beyond ten rows, from ten to ten;
        # each principal begins at a place of its own, so that few rows have the mix as well.
        wanted = _TENS[(place + row // 10) % 2][(row + place // 2) % 10]
        if not find(people[place], wanted, 40) and not any(
            find(candidates.random.choice(people), wanted, 4) for _ in range(1000)
        ):
            raise ValueError(f"the engine has no `{wanted}` for this company")
    candidates.random.shuffle(result)
    return result


def write_requests(path: Path, data: Iterable[bytes]) -> None:
    """Keep *data* in a file, each request behind its length."""
    with path.open("wb") as file:
        for request in data:
            file.write(struct.pack("<I", len(request)))
            file.write(request)


def read_requests(path: Path) -> Iterator[bytes]:
    """The requests that ``write_requests`` kept, in their order."""
    data = path.read_bytes()
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        yield data[offset + 4 : offset + 4 + length]
        offset += 4 + length


def mix(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """The share of each outcome."""
    counted = Counter(outcomes)
    total = sum(counted.values())
    return {what.value: round(counted[what] / total, 4) for what in Outcome}


def main() -> None:
    """Make requests for a compiled company and keep them in a file."""
    parser = argparse.ArgumentParser(description="make the requests of the benchmarks")
    parser.add_argument("image", type=Path, help="the company of that seed and size, compiled")
    parser.add_argument("requests", type=Path, help="where to put the requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--principals", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=100_000)
    arguments = parser.parse_args()
    image = Image.from_bytes(arguments.image.read_bytes())
    started = time.perf_counter()
    made = requests(
        generate(arguments.seed, Scale.of(arguments.principals)),
        lambda data: authorize(image, data, seconds=NOW, nanos=0),
        seed=arguments.seed,
        count=arguments.count,
    )
    write_requests(arguments.requests, (data for _, data in made))
    for what, share in mix(outcome for outcome, _ in made).items():
        print(f"{what:36}{share:>8.1%}")
    print(f"{'seconds':36}{time.perf_counter() - started:>8.1f}")


if __name__ == "__main__":
    main()
