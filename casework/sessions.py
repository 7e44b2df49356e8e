"""Who is signed in: sessions live in the database, so that signing out, a new password or disabling ends them at once.

The browser holds a random token; the table holds its HMAC with the pepper, so a copy of the database signs nobody in.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import audit
from casework.actor import Actor, Role
from casework.errors import NotSignedIn, TooManyTries
from casework.passwords import LONGEST, Hasher
from casework.resources import Pool, driver_of
from casework.tables import passwords
from casework.telemetry import logger

log = logger(__name__)

TOKEN_BYTES = 32
NOTED_EVERY = timedelta(minutes=1)
"""How exactly it is kept when somebody was last seen; spares a write per request."""
TRIES_WITHIN = timedelta(minutes=15)
TRIES_PER_NAME = 10
TRIES_PER_ADDRESS = 100
"""An office may share one address."""
WRONG = "This name and password do not belong together."
"""The one answer to every sign-in that fails, so that nobody learns which names exist."""

TRY = """INSERT INTO casework.sign_in_tries AS t (bucket, tries)
SELECT bucket, 1 FROM unnest(%(buckets)s::bytea[]) bucket ORDER BY bucket
ON CONFLICT (bucket) DO UPDATE SET
    tries = CASE WHEN t.since < now() - %(within)s THEN 1 ELSE t.tries + 1 END,
    since = CASE WHEN t.since < now() - %(within)s THEN now() ELSE t.since END
RETURNING bucket, tries, since + %(within)s - now() AS wait"""
FORGET = """DELETE FROM casework.sign_in_tries WHERE bucket IN (
    SELECT bucket FROM casework.sign_in_tries WHERE since < now() - %(within)s FOR UPDATE SKIP LOCKED)"""
SUCCEEDED = "DELETE FROM casework.sign_in_tries WHERE bucket = %(bucket)s"

PASSWORD = """SELECT hash, roles FROM casework.passwords JOIN casework.actors USING (tenant, actor_id)
WHERE tenant = %(tenant)s AND actor_id = %(actor)s AND disabled_at IS NULL"""
# A password that was changed, or a person disabled, since the check lets nobody in: the rows are held and looked at
# again.
START = """INSERT INTO casework.sessions (hmac, tenant, actor_id)
SELECT %(hmac)s, a.tenant, a.actor_id FROM casework.actors a JOIN casework.passwords p USING (tenant, actor_id)
WHERE tenant = %(tenant)s AND actor_id = %(actor)s AND p.hash = %(hash)s AND a.disabled_at IS NULL
FOR SHARE OF a, p"""
LIVE = """SELECT tenant, actor_id, roles, limits,
    s.seen_at < now() - %(noted_every)s AND current_setting('transaction_read_only') = 'off' AS to_note
FROM casework.sessions s JOIN casework.actors USING (tenant, actor_id)
WHERE s.hmac = %(hmac)s AND disabled_at IS NULL
    AND s.seen_at > now() - %(idle)s AND s.started_at > now() - %(lifetime)s"""
SEEN = "UPDATE casework.sessions SET seen_at = now() WHERE hmac = %(hmac)s"
END = "DELETE FROM casework.sessions WHERE hmac = %(hmac)s RETURNING tenant, actor_id"
CLEAR = """DELETE FROM casework.sessions WHERE hmac IN (SELECT hmac FROM casework.sessions
    WHERE seen_at < now() - %(idle)s OR started_at < now() - %(lifetime)s FOR UPDATE SKIP LOCKED)"""


class Sessions:
    """Signs people in and out. Safe to share."""

    def __init__(
        self,
        engine: AsyncEngine,
        pool: Pool,
        seal: Callable[[str], bytes],
        hasher: Hasher,
        *,
        idle: timedelta,
        lifetime: timedelta,
    ) -> None:
        self.engine = engine
        self.pool = pool
        self.seal = seal
        self.hasher = hasher
        self.lifetimes = {"idle": idle, "lifetime": lifetime}

    async def sign_in(self, tenant: str, name: str, password: str, address: str) -> str:
        """Start a session; returns its token. Raises NotSignedIn, TooManyTries."""
        hashed = await self.check(tenant, name, password, address)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        who = {"tenant": tenant, "actor": name, "hash": hashed, "hmac": self._hmac(token)}
        async with self.engine.begin() as db:
            raw = await driver_of(db)
            await raw.execute(CLEAR, self.lifetimes)
            if not (await raw.execute(START, who)).rowcount:
                raise NotSignedIn(WRONG)
            await audit.append(db, tenant, act="session.start", by=name)
        return token

    async def check(self, tenant: str, name: str, password: str, address: str) -> str:
        """Whether this is the person's password; returns its hash. Raises NotSignedIn, TooManyTries.

        Takes the same time for names that do not exist.
        """
        by_name = self.seal(f"name:{tenant}/{name}")  # sealed: people type passwords into the wrong field
        await self._count_try({by_name: TRIES_PER_NAME, self.seal(f"address:{_network(address)}"): TRIES_PER_ADDRESS})
        async with self.pool.connection() as db:
            row = await (await db.execute(PASSWORD, {"tenant": tenant, "actor": name})).fetchone()
        person = row if row is not None and Role.SERVICE not in row["roles"] else None
        right = await self.hasher.matches(person["hash"] if person else None, password[: LONGEST + 1])
        if not right or person is None:
            log.warning("sign_in.failed", address=address)
            raise NotSignedIn(WRONG)
        async with self.pool.connection() as db:
            await db.execute(SUCCEEDED, {"bucket": by_name})
        hashed: str = person["hash"]
        return await self._renewed(tenant, name, password, hashed) if self.hasher.outdated(hashed) else hashed

    async def holder(self, token: str, *, by_hand: bool) -> Actor:
        """Who is signed in with this token. Raises NotSignedIn.

        `by_hand`: the person did something; what a page asks for on its own does not keep a session alive.
        """
        hmac = self._hmac(token)
        async with self.pool.connection() as db:
            found = await db.execute(LIVE, {"hmac": hmac, "noted_every": NOTED_EVERY, **self.lifetimes})
            row = await found.fetchone()
            if row is None:
                raise NotSignedIn
            if by_hand and row["to_note"]:
                await db.execute(SEEN, {"hmac": hmac})
        roles = frozenset(map(Role, row["roles"]))
        return Actor(actor_id=row["actor_id"], tenant=row["tenant"], roles=roles, limits=row["limits"])

    async def sign_out(self, token: str) -> None:
        """End the session, if there is one."""
        async with self.engine.begin() as db:
            raw = await driver_of(db)
            ended = await (await raw.execute(END, {"hmac": self._hmac(token)})).fetchone()
            if ended is not None:
                tenant, actor_id = ended
                await audit.append(db, tenant, act="session.end", by=actor_id)

    async def _count_try(self, limits: dict[bytes, int]) -> None:
        """Counted before the password is looked at, so that guesses sent at once do not slip through together."""
        async with self.pool.connection() as db:
            await db.execute(FORGET, {"within": TRIES_WITHIN})
            counted = await db.execute(TRY, {"buckets": list(limits), "within": TRIES_WITHIN})
            over = [row["wait"] for row in await counted.fetchall() if row["tries"] > limits[bytes(row["bucket"])]]
        if over:
            log.warning("sign_in.too_many_tries")
            raise TooManyTries(max(over))

    async def _renewed(self, tenant: str, name: str, password: str, hashed: str) -> str:
        """The same password hashed with today's costs, unless it was changed meanwhile."""
        new = await self.hasher.hash(password)
        row = update(passwords).where(
            passwords.c.tenant == tenant, passwords.c.actor_id == name, passwords.c.hash == hashed
        )
        async with self.engine.begin() as db:
            done = await db.execute(row.values(hash=new))
        return new if done.rowcount else hashed

    def _hmac(self, token: str) -> bytes:
        return self.seal(f"session:{token}")


def _network(address: str) -> str:
    """An IPv6 customer holds a /64; counting its addresses one by one would count nothing."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False)) if parsed.version == 6 else str(parsed)
