"""Create the topics that are missing and check the rest, with one clear error for everything that is wrong.

Never alters or deletes an existing topic. A topic somebody else made, with the right shape, needs no admin rights from
us. On brokers without admin requests (``topic_admin = false``) topics appear by being asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    NoError,
    NotControllerError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from streamdetect.errors import UnreachableError
from streamdetect.kafka.plan import REPLICATION_MAX, TopicSeen, TopicSpec, creation_config, plan, problems
from streamdetect.kafka.security import aiokafka_options
from streamdetect.settings import Settings

REACH_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05
DENIED: Final = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)


@dataclass(frozen=True, slots=True)
class TopicsReport:
    """What was done and found. ``unchecked``: topics whose settings we have no right to read."""

    cluster_id: str
    partitions: Mapping[str, int]
    created: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


async def create_and_check(
    settings: Settings, *, create: bool = True, timeout_s: float = REACH_TIMEOUT_S
) -> TopicsReport:
    """Create what is missing (unless told not to) and check partition counts and cleanup policies.

    Raises ``UnreachableError`` when no broker answers in ``timeout_s``, it is of another cluster than the settings say,
    rights are missing, or the topics do not fit.
    """
    specs = plan(settings)
    async with _admin(settings, timeout_s) as admin:
        cluster_id = await _demanded_cluster(admin, settings)
        if not settings.topic_admin:
            seen = await _touched(admin, specs)
            created: tuple[str, ...] = ()
        else:
            seen = await _seen(admin, specs)
            created = await _create(admin, specs, seen, settings) if create else ()
            seen = await _described(admin, await _all_seen(admin, specs, {*seen, *created}))
    if wrong := problems(specs, seen):
        raise UnreachableError(f"{settings.bootstrap_servers}: {'; '.join(wrong)}. {_advice(specs, seen)}")
    unchecked = tuple(name for name, topic in seen.items() if topic.cleanup is None)
    return TopicsReport(cluster_id, {name: topic.partitions for name, topic in seen.items()}, created, unchecked)


async def demand_topic(settings: Settings, name: str, *, timeout_s: float = REACH_TIMEOUT_S) -> None:
    """Raise ``UnreachableError`` for a missing topic, another cluster, or no answer in ``timeout_s``."""
    async with _admin(settings, timeout_s) as admin:
        await _demanded_cluster(admin, settings)
        # By the list of all topics: asking by name would make some brokers create it.
        names = None if settings.topic_admin else [name]
        found = name in _healthy(await admin.describe_topics(names))
    if not found:
        raise UnreachableError(
            f"{settings.bootstrap_servers}: topic {name} is missing, or we have no permission to see it; "
            "`streamdetect topics` creates it, `streamdetect topics --print acls` lists the rights"
        )


async def why_unreachable(settings: Settings, timeout_s: float) -> str:
    """What each bootstrap address answers to a connection, for an error message."""
    options = aiokafka_options(settings)
    arguments = {name: options[name] for name in options if name != "bootstrap_servers"}
    reasons = []
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            async with asyncio.timeout(timeout_s):
                connection = await create_conn(host, port, request_timeout_ms=int(timeout_s * 1000), **arguments)
            connection.close()
        except TimeoutError:
            reasons.append(f"{host}:{port} does not answer")
        except (OSError, KafkaError) as error:
            reasons.append(f"{host}:{port} {error or type(error).__name__}")
    return "; ".join(reasons) or "it answered just now: try again"


@contextlib.asynccontextmanager
async def _admin(settings: Settings, timeout_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**aiokafka_options(settings), request_timeout_ms=int(timeout_s * 1000))
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except DENIED as error:
        raise UnreachableError(
            f"{settings.bootstrap_servers}: no permission to create or see the topics ({type(error).__name__}); "
            "create them with `streamdetect topics` as an administrator, or apply `streamdetect topics --print acls`"
        ) from None
    except (KafkaError, TimeoutError, OSError) as error:
        why = await why_unreachable(settings, min(2.0, timeout_s))
        raise UnreachableError(
            f"broker {settings.bootstrap_servers} cannot be reached within {timeout_s:g} s "
            f"({type(error).__name__}: {why}); check STREAMDETECT_BOOTSTRAP_SERVERS, STREAMDETECT_SECURITY_PROTOCOL"
            # A broker that wants a client certificate says no more than that it closed the connection.
            + (" and STREAMDETECT_SSL_*" if "SSL" in settings.security_protocol else "")
        ) from None
    finally:
        await admin.close()


async def _demanded_cluster(admin: AIOKafkaAdminClient, settings: Settings) -> str:
    """The id of the cluster, if it is the one wanted: an image's offsets mean nothing in a copy of its cluster."""
    found = str((await admin.describe_cluster())["cluster_id"])
    if settings.cluster_id not in (None, found):
        raise UnreachableError(
            f"{settings.bootstrap_servers}: this is cluster {found}, not {settings.cluster_id} as "
            "STREAMDETECT_CLUSTER_ID demands; check STREAMDETECT_BOOTSTRAP_SERVERS"
        )
    return found


async def _seen(admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec]) -> dict[str, TopicSeen]:
    """Topics of the plan that exist. Asks for all topics: asking by name would make some brokers create them."""
    wanted = {spec.name for spec in specs}
    return _healthy(topic for topic in await admin.describe_topics() if topic["topic"] in wanted)


async def _all_seen(admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec], names: set[str]) -> dict[str, TopicSeen]:
    """Wait until every one of ``names`` shows in the metadata: brokers learn of a new topic a moment later."""
    while True:
        seen = await _seen(admin, specs)
        if names <= seen.keys():
            return seen
        await asyncio.sleep(POLL_S)


async def _touched(admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec]) -> dict[str, TopicSeen]:
    """Topics that come into being by being asked for."""
    names = [spec.name for spec in specs]
    while True:
        seen = _healthy(await admin.describe_topics(names))
        if len(seen) == len(names):
            return seen
        await asyncio.sleep(POLL_S)


def _healthy(topics: Iterable[Mapping[str, Any]]) -> dict[str, TopicSeen]:
    return {
        topic["topic"]: TopicSeen(len(topic["partitions"]))
        for topic in topics
        if topic["error_code"] == NoError.errno and topic["partitions"]
    }


async def _create(
    admin: AIOKafkaAdminClient, specs: Iterable[TopicSpec], seen: Mapping[str, TopicSeen], settings: Settings
) -> tuple[str, ...]:
    missing = [spec for spec in specs if spec.ours and spec.name not in seen]
    if not missing:
        return ()
    brokers = len((await admin.describe_cluster())["brokers"])
    copies = settings.topic_replication or min(REPLICATION_MAX, brokers)
    # New topics join the ones that are there: their number decides, or the equal counts could never be met.
    standing = {seen[spec.name].partitions for spec in specs if spec.equal and spec.name in seen}
    equal = standing.pop() if len(standing) == 1 else settings.topic_partitions
    wanted = [
        NewTopic(
            spec.name, equal if spec.equal else spec.partitions, copies, topic_configs=creation_config(spec, copies)
        )
        for spec in missing
    ]
    while True:
        if await _try_create(admin, wanted):
            return tuple(spec.name for spec in missing)
        await asyncio.sleep(POLL_S)


async def _try_create(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> bool:
    """One attempt; false when the controller has moved. Another worker creating the same topics is no error."""
    answer = await admin.create_topics(wanted)
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        if error is NotControllerError:
            return False
        if error in DENIED:
            raise error(name)
        if error not in (NoError, TopicAlreadyExistsError):
            raise UnreachableError(f"topic {name} cannot be created: {(message or [None])[0] or error.__name__}")
    return True


async def _described(admin: AIOKafkaAdminClient, seen: Mapping[str, TopicSeen]) -> dict[str, TopicSeen]:
    """Add the cleanup policies, where we may read them."""
    if not seen:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs={"cleanup.policy": None}) for name in seen]
    policies: dict[str, str] = {}
    for answer in await admin.describe_configs(asked):
        for code, _message, _type, name, entries in answer.resources:
            if code == NoError.errno:
                policies[name] = next(entry[1] for entry in entries if entry[0] == "cleanup.policy")
    return {name: TopicSeen(topic.partitions, policies.get(name)) for name, topic in seen.items()}


def _advice(specs: Iterable[TopicSpec], seen: Mapping[str, TopicSeen]) -> str:
    foreign = [spec.name for spec in specs if not spec.ours and spec.name not in seen]
    if foreign:
        return f"{', '.join(foreign)} comes from STREAMDETECT_REQUEST_TOPICS and is created by its owner, not by us"
    return (
        "`streamdetect topics` creates what is missing; partition counts and policies of existing topics are yours to "
        "change"
    )
