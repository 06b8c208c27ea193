# SPDX-License-Identifier: Apache-2.0
"""A running sidecar whose FIDO metadata is replaced."""

import json
import os
import signal
from pathlib import Path

from tests.e2e.sidecar_process import eventually, serving, write_source
from tests.unit.mfa import statements as made


def test_metadata_when_replaced_and_hung_up_then_the_sidecar_tells_what_became_of_it(tmp_path: Path) -> None:
    metadata, root = tmp_path / "blob.jwt", tmp_path / "root.der"
    metadata.write_bytes(made.blob(made.entry(), next_update="2049-01-01"))
    root.write_bytes(made.MDS_ROOT.der)
    flags = ["--mfa-metadata", str(metadata), "--mfa-metadata-root", str(root), "--mfa-metadata-grace-days", "7"]
    with serving(write_source(tmp_path / "source"), tmp_path / "state", *flags) as sidecar:
        for number, tamper, event in ((8, True, "fido_metadata_refused"), (9, False, "fido_metadata_loaded")):
            draft = tmp_path / "draft"
            draft.write_bytes(made.blob(made.entry(), number=number, next_update="2049-02-01", tamper=tamper))
            draft.rename(metadata)
            os.kill(sidecar.process.pid, signal.SIGHUP)
            eventually(lambda event=event: event in {found["event"] for found in sidecar.events})  # type: ignore[misc]
        records = [json.loads(line) for line in (tmp_path / "state" / "audit.jsonl").read_text().splitlines()]

    assert [(record["event"], record["caller"]) for record in records] == [
        ("mfa.metadata_refused", "sidecar"),
        ("mfa.metadata_loaded", "sidecar"),
    ]
    assert "signature" in records[0]["note"]
