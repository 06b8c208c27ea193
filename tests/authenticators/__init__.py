# SPDX-License-Identifier: Apache-2.0
"""
Security keys made of software, for tests: CTAP2 and U2F, behind the real framing of CTAPHID.

A key is plugged in and is then a device like any other to python-fido2's client::

    key = Ctap2Key(pin="1234")
    with plug(key) as device:
        client = Fido2Client(device, client_data_collector=…, user_interaction=…)

Who touches it is said by ``key.finger``: ``Finger(after=2)`` lets two keepalives go by first, ``Finger.away()`` waits
until another thread calls ``key.finger.touch()``. Several keys are plugged in by plugging each. ``key.clone()`` is the
attacker's copy, with the counter that the key had then.
"""

from tests.authenticators.ctap2 import Ctap2Key
from tests.authenticators.hid import plug
from tests.authenticators.issuer import Issuer
from tests.authenticators.touch import Finger
from tests.authenticators.u2f import U2fKey

__all__ = ["Ctap2Key", "Finger", "Issuer", "U2fKey", "plug"]
