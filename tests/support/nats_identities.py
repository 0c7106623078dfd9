"""Identities for NATS that tests make themselves: certificates, and the JWTs of a creds file."""

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import nkeys


class Certificates:
    """A certificate authority in a folder, with a server's and a client's certificate for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self._ca_key = folder / "ca.pem", folder / "ca.key"
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        _openssl(*new, "-subj", "/CN=ca of the tests", "-keyout", self._ca_key, "-out", self.ca)
        self.server, self.server_key = self._issue(folder, "server")
        self.client, self.client_key = self._issue(folder, "client")

    def _issue(self, folder: Path, name: str) -> tuple[Path, Path]:
        certificate, key, request = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.csr"
        extensions = folder / f"{name}.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(*new, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        sign = ["x509", "-req", "-days", "2", "-in", request, "-CA", self.ca, "-CAkey", self._ca_key]
        _openssl(*sign, "-CAcreateserial", "-extfile", extensions, "-out", certificate)
        return certificate, key


class Operator:
    """A NATS operator with a system account and one account, as `nsc` makes them."""

    def __init__(self) -> None:
        self._operator = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = _key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = _key(nkeys.PREFIX_BYTE_ACCOUNT)

    def server_config(self) -> str:
        """Return the configuration of a server that trusts this operator."""
        operator = _public(self._operator)
        unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
        storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
        system = _jwt(self._operator, _public(self._system), "SYS", {"type": "account", "limits": unlimited})
        account = _jwt(
            self._operator, _public(self._account), "imago", {"type": "account", "limits": {**unlimited, **storage}}
        )
        mine = _jwt(self._operator, operator, "operator", {"type": "operator", "system_account": _public(self._system)})
        return (
            f"operator: {mine}\nsystem_account: {_public(self._system)}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {_public(self._system)}: {system}, {_public(self._account)}: {account} }}\n"
        )

    def write_creds(self, path: Path) -> None:
        """Write the creds file of a new user."""
        seed = _seed(nkeys.PREFIX_BYTE_USER)
        user = nkeys.from_seed(bytearray(seed))
        limits = {"subs": -1, "data": -1, "payload": -1}
        token = _jwt(self._account, _public(user), "worker", {"type": "user", **limits})
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
        )


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _seed(prefix: int) -> bytes:
    return bytes(nkeys.encode_seed(os.urandom(32), prefix))


def _key(prefix: int) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(_seed(prefix)))


def _public(key: nkeys.KeyPair) -> str:
    return bytes(key.public_key).decode()


def _jwt(issuer: nkeys.KeyPair, subject: str, name: str, nats: dict[str, Any]) -> str:
    claims = {"iss": _public(issuer), "sub": subject, "name": name, "iat": int(time.time())}
    claims["nats"] = {"version": 2, **nats}
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    head = _encoded({"typ": "JWT", "alg": "ed25519-nkey"})
    body = f"{head}.{_encoded(claims)}"
    return f"{body}.{_base64(issuer.sign(body.encode()))}"


def _encoded(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
