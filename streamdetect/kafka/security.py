"""Client options from settings, in the words of each client library.

One credential set serves producers, consumers and admin requests. The TLS context is built here, so that every client
trusts the same authorities; certificates are read when the context is made, not per connection.
"""

import ssl
from typing import Any

from streamdetect.errors import SettingsError
from streamdetect.settings import Settings


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context of the settings, ``None`` for protocols without TLS. Raises ``SettingsError`` for bad files."""
    if "SSL" not in settings.security_protocol:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile is not None:
            secret = settings.ssl_key_password
            # Without a password OpenSSL would ask on the terminal; an empty one fails at once instead.
            password = secret.get_secret_value() if secret is not None else ""
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"STREAMDETECT_SSL_*: the certificates cannot be used: {error}") from None
    return context


def aiokafka_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes: addresses, TLS, SASL."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "security_protocol": settings.security_protocol,
    }
    if (context := ssl_context(settings)) is not None:
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return options


def confluent_config(settings: Settings) -> dict[str, str | bool]:
    """The same for librdkafka (confluent-kafka)."""
    config: dict[str, str | bool] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": settings.client_id,
        "security.protocol": settings.security_protocol,
    }
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        config["sasl.mechanisms"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username or ""
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    if "SSL" in settings.security_protocol:
        config["ssl.endpoint.identification.algorithm"] = "https" if settings.ssl_check_hostname else "none"
        places = {
            "ssl.ca.location": settings.ssl_cafile,
            "ssl.certificate.location": settings.ssl_certfile,
            "ssl.key.location": settings.ssl_keyfile,
        }
        config.update({name: str(place) for name, place in places.items() if place is not None})
        if settings.ssl_key_password is not None:
            config["ssl.key.password"] = settings.ssl_key_password.get_secret_value()
    return config
