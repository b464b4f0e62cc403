"""TLS to the hub: connections, files, and the names of problems; with real TLS servers."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import socket
import ssl
import threading
from concurrent import futures

import grpc
import pytest
import trustme
from support.servers import refusing_address
from support.waiting import TIMEOUT

from arbprov import ConfigurationError, HubConnectionError, ProviderApp
from arbprov._proto import hub_pb2
from arbprov.config import load_config
from arbprov.wire.client import GrpcHub
from arbprov.wire.tls_diagnosis import explain_tls, speaks_tls
from arbprov.wire.tokens import Token


@pytest.fixture(autouse=True)
def slow_handshakes(monkeypatch):
    """Let a handshake take a minute, as a busy machine may need more than 2 s."""
    monkeypatch.setattr("arbprov.wire.tls_diagnosis._TIMEOUT", TIMEOUT)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with two CAs, and certificates and keys that they signed."""
    folder = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other-ca.pem")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    certificates = {
        "hub": ca.issue_cert("localhost"),
        "elsewhere": ca.issue_cert("hub.example.org"),
        "expired": ca.issue_cert("localhost", not_after=past),
        "provider": ca.issue_cert("provider@example.org"),
        "stranger": other.issue_cert("provider@example.org"),
    }
    for name, certificate in certificates.items():
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(chain)
    return folder


class Handler(grpc.GenericRpcHandler):
    def __init__(self):
        self._ids = itertools.count(1)

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: hub_pb2.Task(id=f"t{next(self._ids)}").SerializeToString()
        )


@pytest.fixture
def start(files):
    """Return a function that starts a server, with TLS or in plaintext, and returns its port."""
    servers = []

    def start(certificate=None, *, wants_certificates=False):
        server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
        servers.append(server)
        if certificate is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            key, chain = ((files / f"{certificate}.{kind}").read_bytes() for kind in ("key", "pem"))
            ca = (files / "ca.pem").read_bytes() if wants_certificates else None
            credentials = grpc.ssl_server_credentials([(key, chain)], ca, wants_certificates)
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        return port

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.fixture
def asked(files):
    """Return a function that polls a hub once, with settings that name `files`."""

    def ask(url, **settings):
        paths = {
            f"hub_tls_{name}": str(files / settings.pop(name))
            for name in list(settings)
            if name in ("ca", "cert", "key")
        }
        config = load_config({"hub_url": url} | paths | settings, {})

        async def main():
            token = Token("sample-token")
            token.read()
            hub = GrpcHub(
                config.hub_url,
                provider="weather",
                token=token,
                poll_timeout=TIMEOUT,
                submit_timeout=TIMEOUT,
                tls=config.tls(),
            )
            try:
                return await hub.fetch()
            finally:
                await hub.close()

        return asyncio.run(main())

    return ask


def complaint(ask, *arguments, **settings):
    with pytest.raises(HubConnectionError) as caught:
        ask(*arguments, **settings)
    return str(caught.value)


# Connections that work.


def test_a_hub_is_asked_over_tls(asked, start):
    assert asked(f"grpcs://localhost:{start('hub')}", ca="ca.pem").id == "t1"


def test_a_setting_turns_tls_on_too(asked, start):
    assert asked(f"localhost:{start('hub')}", ca="ca.pem").id == "t1"


def test_a_hub_may_want_to_see_a_certificate(asked, start):
    port = start("hub", wants_certificates=True)
    certificate = {"cert": "provider.pem", "key": "provider.key"}
    assert asked(f"grpcs://localhost:{port}", ca="ca.pem", **certificate).id == "t1"


def test_the_name_in_the_certificate_may_be_another_than_in_the_url(asked, start):
    port = start("elsewhere")
    name = {"hub_tls_server_name": "hub.example.org"}
    assert asked(f"grpcs://127.0.0.1:{port}", ca="ca.pem", **name).id == "t1"


def test_an_app_works_over_tls(files, start):
    app = ProviderApp(auth_token="sample-token", hub_tls_ca=str(files / "ca.pem"))
    connected = threading.Event()
    app.on_connect(connected.set)
    url = f"localhost:{start('hub')}"
    with futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=url)
        assert connected.wait(TIMEOUT)
        app.stop()
        running.result(TIMEOUT)


# Problems, and their names.


def test_tls_to_a_plaintext_hub_is_named(asked, start):
    url = f"grpcs://localhost:{start()}"
    assert f"the hub at {url}: it does not speak TLS, and this provider does: write grpc://" in (
        complaint(asked, url, ca="ca.pem")
    )


@pytest.mark.parametrize("wants_certificates", [False, True])
@pytest.mark.parametrize("scheme", ["", "grpc://"])
def test_plaintext_to_a_tls_hub_is_named(asked, start, scheme, wants_certificates):
    url = f"{scheme}localhost:{start('hub', wants_certificates=wants_certificates)}"
    assert f"the hub at {url}: it speaks TLS, and this provider does not: write grpcs://" in (
        complaint(asked, url)
    )


def test_a_certificate_of_an_unknown_ca_is_named(asked, start):
    message = complaint(asked, f"grpcs://localhost:{start('hub')}", ca="other-ca.pem")
    assert "has expired, or its CA is not known here: set HUB_GRPC_TLS_CA" in message


def test_a_certificate_of_no_public_ca_is_named(asked, start):
    message = complaint(asked, f"grpcs://localhost:{start('hub')}")
    assert "its CA is not known here" in message


def test_a_certificate_for_another_host_is_named(asked, start):
    message = complaint(asked, f"grpcs://localhost:{start('elsewhere')}", ca="ca.pem")
    assert "its certificate is for another host name" in message
    assert "HUB_GRPC_TLS_SERVER_NAME" in message


def test_an_expired_certificate_is_named(asked, start):
    message = complaint(asked, f"grpcs://localhost:{start('expired')}", ca="ca.pem")
    assert "has expired" in message


def test_a_certificate_that_the_hub_misses_is_named(asked, start):
    url = f"grpcs://localhost:{start('hub', wants_certificates=True)}"
    message = complaint(asked, url, ca="ca.pem")
    assert "requires a client certificate: set HUB_GRPC_TLS_CERT and HUB_GRPC_TLS_KEY" in message


def test_a_certificate_that_the_hub_does_not_trust_is_named(asked, start):
    url = f"grpcs://localhost:{start('hub', wants_certificates=True)}"
    stranger = {"cert": "stranger.pem", "key": "stranger.key"}
    message = complaint(asked, url, ca="ca.pem", **stranger)
    assert "does not trust the client certificate: is HUB_GRPC_TLS_CERT right?" in message


def test_grpc_s_details_are_in_the_message_too(asked, start):
    message = complaint(asked, f"grpcs://localhost:{start()}", ca="ca.pem")
    assert "(UNAVAILABLE, failed to connect to all addresses; last error: " in message


@pytest.mark.parametrize("settings", [{}, {"ca": "ca.pem"}])
def test_a_hub_that_is_away_is_not_a_tls_problem(asked, settings):
    with refusing_address() as address:
        message = complaint(asked, address, **settings)
    assert message.startswith(f"the hub at {address}: UNAVAILABLE, ")
    assert "TLS" not in message


@pytest.fixture
def listening():
    """Return a function that serves each connection with a function, and returns the port."""
    open_things = []

    def listen(serve):
        server = socket.create_server(("127.0.0.1", 0))
        open_things.append(server)

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        open_things.append(thread)
        return server.getsockname()[1]

    yield listen
    for thing in open_things:
        if isinstance(thing, threading.Thread):
            thing.join(TIMEOUT)
        else:
            thing.shutdown(socket.SHUT_RDWR)
            thing.close()


def test_a_server_that_only_closes_is_not_taken_for_a_tls_hub(asked, listening):
    port = listening(lambda connection: connection.recv(10))
    message = complaint(asked, f"127.0.0.1:{port}")
    assert "TLS" not in message


def test_a_tls_server_without_grpc_is_named(asked, listening, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "hub.pem", files / "hub.key")

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(10)

    message = complaint(asked, f"grpcs://localhost:{listening(serve)}", ca="ca.pem")
    assert "it speaks TLS, but not gRPC: is HUB_GRPC_URL right?" in message


def test_a_server_that_refuses_the_handshake_speaks_tls(listening, files):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "hub.pem", files / "hub.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")

    def serve(connection):
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    assert speaks_tls(f"127.0.0.1:{listening(serve)}")


def test_a_silent_server_does_not_speak_tls(listening, monkeypatch):
    monkeypatch.setattr("arbprov.wire.tls_diagnosis._TIMEOUT", 0.1)
    port = listening(lambda connection: connection.recv(10) and connection.recv(10))
    assert not speaks_tls(f"127.0.0.1:{port}")


def test_an_error_that_is_not_about_tls_has_no_explanation(files):
    tls = load_config({"hub_tls": True}, {}).tls()
    assert explain_tls("failed to connect to all addresses; something new", tls) == ""


def test_a_connection_that_existed_is_not_a_tls_problem():
    tls = load_config({"hub_tls": True}, {}).tls()
    assert explain_tls("Socket closed", tls) == ""


# The files.


def problem(**settings):
    config = load_config({"hub_url": "grpcs://hub:1"} | settings, {})
    with pytest.raises(ConfigurationError) as caught:
        config.tls()
    return str(caught.value)


@pytest.mark.parametrize(("name", "variable"), [("ca", "CA"), ("cert", "CERT"), ("key", "KEY")])
def test_a_file_that_is_not_there_is_named(files, name, variable):
    paths = {"cert": "provider.pem", "key": "provider.key"} | {name: "nothing"}
    settings = {f"hub_tls_{one}": str(files / path) for one, path in paths.items()}
    assert problem(**settings).startswith(
        f"HUB_GRPC_TLS_{variable} (hub_tls_{name}=): {files}/nothing can't be read: "
    )


def test_a_certificate_without_its_key_is_named(files):
    assert problem(hub_tls_cert=str(files / "provider.pem")) == (
        "HUB_GRPC_TLS_CERT (hub_tls_cert=) is set without HUB_GRPC_TLS_KEY (hub_tls_key=); "
        "set both or neither"
    )


def test_a_key_without_its_certificate_is_named(files):
    assert problem(hub_tls_key=str(files / "provider.key")).startswith(
        "HUB_GRPC_TLS_KEY (hub_tls_key=) is set without HUB_GRPC_TLS_CERT"
    )


def test_a_file_without_a_ca_is_named(files, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing of the kind")
    assert problem(hub_tls_ca=str(path)) == (
        f"HUB_GRPC_TLS_CA (hub_tls_ca=): {path} contains no certificate in PEM form"
    )


@pytest.mark.parametrize("key", ["stranger.key", "ca.pem", "locked.key"])
def test_a_key_that_does_not_fit_is_named(files, key):
    if key == "locked.key":
        lock(files / "provider.key", files / key)
    message = problem(hub_tls_cert=str(files / "provider.pem"), hub_tls_key=str(files / key))
    assert message.startswith(
        f"HUB_GRPC_TLS_CERT (hub_tls_cert=) and HUB_GRPC_TLS_KEY (hub_tls_key=): "
        f"{files}/provider.pem and {files}/{key} are not a certificate and its private key"
    )


def lock(path, locked):
    """Write a private key with a password."""
    from cryptography.hazmat.primitives import serialization as forms

    key = forms.load_pem_private_key(path.read_bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            forms.Encoding.PEM,
            forms.PrivateFormat.PKCS8,
            forms.BestAvailableEncryption(b"password"),
        )
    )


def test_a_wrong_file_ends_the_run_before_it_begins(files):
    app = ProviderApp(auth_token="t", hub_tls_ca=str(files / "nothing"))
    with pytest.raises(ConfigurationError, match=r"HUB_GRPC_TLS_CA .*nothing can't be read"):
        app.run(hub_url="localhost:1")


def test_a_private_key_is_in_no_repr(files):
    pair = {"hub_tls_cert": str(files / "hub.pem"), "hub_tls_key": str(files / "hub.key")}
    tls = load_config({"hub_url": "grpcs://hub:1"} | pair, {}).tls()
    assert "PRIVATE KEY" not in repr(tls)
