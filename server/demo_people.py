"""The people of the demo company: who exists after the first start on the embedded database.

Their passwords are made for each installation and kept in its data folder, beside the database that anybody who can
read that folder owns anyhow. A fixed password would be an open door the day somebody lets others reach the port.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from casework.actor import SYSTEM, Role
from casework.errors import NotSignedIn
from casework.people import Person
from casework.settings import Settings
from server.service import Service

PASSWORD_BYTES = 12


@dataclass(frozen=True)
class Part:
    """What somebody of the demo company may do."""

    roles: frozenset[Role]
    limits: Mapping[str, int] = field(default_factory=dict)
    """Minor units by currency."""


DEMO_PEOPLE: dict[str, Part] = {
    "olivia": Part(frozenset({Role.OPERATOR})),
    "ana": Part(frozenset({Role.APPROVER}), {"EUR": 2_000_00}),
    "ben": Part(frozenset({Role.APPROVER}), {"EUR": 2_000_00}),
    "cem": Part(frozenset({Role.APPROVER}), {"EUR": 150_00}),
    "adam": Part(frozenset({Role.ADMIN})),
    "iris": Part(frozenset({Role.AUDITOR})),
    "helpdesk": Part(frozenset({Role.SERVICE})),
}
"""Two approvers good for everything, because some refunds need two; and one whose limit is soon reached."""


@dataclass(frozen=True)
class Credentials:
    """How the demo people come in."""

    keys: dict[str, str]
    passwords: dict[str, str]
    """Only those that still are what was made here: whoever chose another one keeps it to themselves."""


async def demo_people(service: Service, data_dir: Path) -> Credentials:
    """Make the demo people who do not exist yet; the same credentials at every start, from files in `data_dir`."""
    there = {person.actor_id: person for person in await service.people.all(SYSTEM.tenant)}
    for name, part in DEMO_PEOPLE.items():
        if name not in there:
            there[name] = await service.people.add(SYSTEM, name, part.roles, part.limits)
        elif not there[name].limits and part.limits and not there[name].has_password:  # made before there were limits
            there[name] = await service.people.change(SYSTEM, name, limits=part.limits)
    let_in = [there[name] for name in DEMO_PEOPLE if there[name].disabled_at is None]
    keys = await _keys(service, let_in, _read(_keys_in(data_dir)))
    passwords = await _passwords(service, let_in, _read(_passwords_in(data_dir)))
    _write(_keys_in(data_dir), keys)
    _write(_passwords_in(data_dir), passwords)
    return Credentials(keys, passwords)


def shown_at_the_door(settings: Settings, hostname: str | None) -> dict[str, str]:
    """The demo passwords that the sign-in page shows: on the embedded database, to this machine's own browser.

    The host's name is looked at as well: a page elsewhere whose name is made to lead here reads nothing.
    """
    if settings.embedded and _loopback(settings.host) and hostname is not None and _loopback(hostname):
        return _read(_passwords_in(settings.data_dir))
    return {}


async def _keys(service: Service, people: list[Person], kept: dict[str, str]) -> dict[str, str]:
    keys = {}
    for person in people:
        name = person.actor_id
        if name in kept and await _valid(service, kept[name]):
            keys[name] = kept[name]
        else:
            keys[name] = await service.identity.add_key(SYSTEM.tenant, name, by=SYSTEM)
    return keys


async def _passwords(service: Service, people: list[Person], kept: dict[str, str]) -> dict[str, str]:
    passwords = {}
    for person in people:
        name = person.actor_id
        if Role.SERVICE in person.roles:
            continue
        if not person.has_password:
            passwords[name] = secrets.token_urlsafe(PASSWORD_BYTES)
            await service.people.set_password(SYSTEM, name, passwords[name])
        elif name in kept and await service.people.has_password(SYSTEM.tenant, name, kept[name]):
            passwords[name] = kept[name]
    return passwords


async def _valid(service: Service, key: str) -> bool:
    try:
        await service.identity.authenticate(key)
    except NotSignedIn:
        return False
    return True


def _keys_in(data_dir: Path) -> Path:
    return data_dir / "demo-keys.json"


def _passwords_in(data_dir: Path) -> Path:
    return data_dir / "demo-passwords.json"


def _read(kept: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    return found


def _write(kept: Path, secrets_by_name: dict[str, str]) -> None:
    kept.touch(mode=0o600)
    kept.write_text(json.dumps(secrets_by_name, indent=2))


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
