# SPDX-License-Identifier: Apache-2.0
"""
A program that enrols and proves, is killed in the midst of it, and looks at what it left behind; again and again.

Prints what it found as JSON. Run as ``python -m tests.unit.services.crashing FOLDER CRASHES SEED``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from sidecar.model.errors import MfaError, ThrottledError
from sidecar.services.challenges import AssertionAnswer, RecoveryAnswer, TotpAnswer
from sidecar.services.store.engine import open_store
from tests.authenticators import Ctap2Key
from tests.unit.services.mfa_kit import ADA, ADMINISTRATOR, Kit, Phone, session_of

SESSION = session_of(ADA)
#: Things that the work says were accepted, and the longest time after one at which it is killed, in seconds.
FACTS, LONGEST = 11, 0.04


def work(kit: Kit, say: Any) -> None:
    """Enrol a telephone and a key, and prove with both; say what was accepted once that is certain."""
    phone = kit.begin_phone(name=f"phone{kit.clock.nanoseconds}")
    kit.confirm(phone)
    step = int(kit.clock.seconds // 30)
    say(kind="code", serial=phone.serial_number, secret=phone.secret.hex(), step=step)
    key = Ctap2Key()
    device = kit.enrol_key(key)
    say(kind="key", serial=device.serial_number, count=0)
    codes = kit.services.recovery.generate(ADMINISTRATOR, ADA)
    for number in range(3):
        kit.clock.advance(60)
        step = int(kit.clock.seconds // 30)
        opened = kit.services.challenges.begin(SESSION, ADA, SESSION.session)
        answer = TotpAnswer(phone.code(kit.clock.seconds))
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)
        say(kind="code", serial=phone.serial_number, secret=phone.secret.hex(), step=step)
        opened = kit.services.challenges.begin(SESSION, ADA, f"{SESSION.session}-{number}")
        assertion = kit.assertion(key, opened)
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, AssertionAnswer(assertion))
        say(kind="key", serial=device.serial_number, count=key.counter)
        opened = kit.services.challenges.begin(SESSION, ADA, f"{SESSION.session}-{number}-r")
        kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, RecoveryAnswer(codes[number]))
        say(kind="recovery", code=codes[number])
        kit.clock.advance(600)


def run_and_kill(folder: Path, seconds: float, count: int, after: float) -> list[dict[str, Any]]:
    """Do the work in a process of its own, kill that after it has said *count* things, and return all that it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store = open_store("", state_dir=folder)
            kit = Kit(store, folder)
            kit.clock.nanoseconds = int(seconds * 1e9)
            work(kit, lambda **fact: os.write(writing, json.dumps(fact).encode() + b"\n"))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        lines = [said.readline() for _ in range(count)]
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return [json.loads(line) for line in [*lines, *said.read().splitlines()]]


def find_faults(folder: Path, seconds: float, facts: list[dict[str, Any]]) -> list[str]:
    """Say what is not as it has to be."""
    store = open_store("", state_dir=folder)
    kit = Kit(store, folder)
    kit.clock.nanoseconds = int(seconds * 1e9)
    faults = []
    with store.read() as connection:
        if connection.execute(text("PRAGMA integrity_check")).scalar_one() != "ok":
            faults.append("the file is damaged")
        half = connection.execute(
            text(
                "SELECT d.serial_number FROM devices d LEFT JOIN totp_secrets t USING (serial_number)"
                " LEFT JOIN credentials c USING (serial_number)"
                " WHERE (t.serial_number IS NULL) = (c.serial_number IS NULL)"
                " OR (d.slot IS NULL) <> (d.enabled_at_ms IS NULL)"
                " OR (d.enabled_at_ms IS NOT NULL AND t.serial_number IS NOT NULL AND t.last_used_step IS NULL)"
            )
        ).all()
        faults += [f"{row[0]} is half enrolled" for row in half]
        rows = connection.execute(text("SELECT serial_number, last_used_step FROM totp_secrets"))
        steps: dict[str, int | None] = {row[0]: row[1] for row in rows}
        rows = connection.execute(text("SELECT serial_number, sign_count FROM credentials"))
        counts: dict[str, int] = {row[0]: row[1] for row in rows}
        proved = connection.execute(
            text("SELECT COUNT(*) FROM challenges WHERE (state = 'proved') <> (proved_at_ms IS NOT NULL)")
        ).scalar_one()
    if proved:
        faults.append("a challenge is half proved")
    for fact in facts:
        if fact["kind"] == "code" and not (steps.get(fact["serial"]) or 0) >= fact["step"]:
            faults.append(f"step {fact['step']} was accepted, and is not spent")
        if fact["kind"] == "key" and not counts.get(fact["serial"], -1) >= fact["count"]:
            faults.append(f"count {fact['count']} was accepted, and is not stored")
    for place, fact in enumerate([fact for fact in facts if fact["kind"] in ("code", "recovery")][-2:]):
        kit.services.throttles.unlock(ADMINISTRATOR, ADA)
        opened = kit.services.challenges.begin(SESSION, ADA, f"replay-{place}")
        answer: TotpAnswer | RecoveryAnswer
        if fact["kind"] == "code":
            kit.clock.nanoseconds = fact["step"] * 30 * 1_000_000_000
            opened = kit.services.challenges.begin(SESSION, ADA, f"replay-{place}")
            phone = Phone(fact["serial"], "")
            phone.secret = bytes.fromhex(fact["secret"])
            answer = TotpAnswer(phone.code(kit.clock.seconds))
        else:
            answer = RecoveryAnswer(fact["code"])
        try:
            kit.services.challenges.answer(SESSION, opened.challenge.challenge_id, answer)
        except MfaError:
            continue
        except ThrottledError:
            faults.append("the replay was not looked at")
        else:
            faults.append(f"a spent {fact['kind']} was accepted again")
    for device in kit.services.devices.list_devices(ADA):
        kit.services.devices.deactivate(ADMINISTRATOR, device.serial_number)
    kit.services.throttles.unlock(ADMINISTRATOR, ADA)
    store.close()
    return faults


def main(folder: Path, crashes: int, seed: int) -> None:
    """Crash as many times."""
    chance = random.Random(seed)
    faults: list[str] = []
    kinds: dict[str, int] = {}
    for number in range(crashes):
        seconds = 1_800_000_000.0 + 100_000 * number
        facts = run_and_kill(folder, seconds, number % FACTS, chance.uniform(0, LONGEST))
        for kind in {fact["kind"] for fact in facts} or {"nothing"}:
            kinds[kind] = kinds.get(kind, 0) + 1
        faults += find_faults(folder, seconds + 50_000, facts)
    print(json.dumps({"crashes": crashes, "faults": faults, "accepted_before_the_crash": kinds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
