"""A certificate authority for tests: certificates with any names, times and purposes, made by the command openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from remaphore.embedded.certificates import TlsFiles

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """A CA with its certificate in *folder*, where it also writes what it issues."""

    def __init__(self, folder: Path, *, name: str = "ca") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("this machine has no openssl: apt-get install openssl")
        self._folder = folder
        self._key = folder / f"{name}.key"
        self.file = folder / f"{name}.crt"
        self.openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.file, "-days", 3650, "-subj", "/CN=CA")

    def issue(self, name: str, *names: str, usage: str = "", days: int = 30, serial: int = 1) -> TlsFiles:
        """Return the files of a certificate for *names*, `DNS:...` or `IP:...`. usage: of the key, all if empty."""
        files = TlsFiles(cert=self._folder / f"{name}.crt", key=self._folder / f"{name}.key", ca=self.file)
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        lines = [f"subjectAltName={','.join(names)}"] if names else []
        lines += [f"extendedKeyUsage={usage}"] if usage else []
        extensions.write_text("\n".join(["basicConstraints=CA:FALSE", *lines]))
        self.openssl("req", *_KEY, "-keyout", files.key, "-out", request, "-subj", "/CN=localhost")
        self.openssl(
            *(
                "x509",
                "-req",
                "-in",
                request,
                "-CA",
                self.file,
                "-CAkey",
                self._key,
                "-set_serial",
                serial,
                "-days",
                days,
            ),
            *("-extfile", extensions, "-out", files.cert),
        )
        files.key.chmod(0o600)
        return files

    def openssl(self, *words: object) -> None:
        """Run openssl."""
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
