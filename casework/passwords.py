"""Passwords: what is asked of them, and their argon2id hashes."""

from __future__ import annotations

import asyncio
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from casework.errors import InputInvalid

SHORTEST, LONGEST = 12, 200
"""Characters. Length is what counts (NIST SP 800-63B); no digits or signs are demanded."""
AT_ONCE = 2
"""Hashes made at once in one process: each takes 64 MiB, so a flood of sign-ins waits instead of eating the memory."""


class Hasher:
    """Makes and checks hashes, off the event loop. Costs are argon2-cffi's defaults (RFC 9106, low memory)."""

    def __init__(self) -> None:
        self._argon2 = PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(self._argon2.hash, _normal(password))

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the hash's. None, for nobody's password, takes as long and is never right."""
        if self._nobodys is None:
            self._nobodys = await self.hash("nobody's password")
        async with self._turns:
            right = await asyncio.to_thread(self._verify, hashed or self._nobodys, _normal(password))
        return right and hashed is not None

    def outdated(self, hashed: str) -> bool:
        """Whether it was made with other costs than today's."""
        return self._argon2.check_needs_rehash(hashed)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._argon2.verify(hashed, password)
        except VerifyMismatchError:
            return False


def refuse_weak(password: str, name: str) -> None:
    """Raises InputInvalid naming what to do better."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise InputInvalid(
            f"a password has {SHORTEST} to {LONGEST} characters; several words are fine", field="password"
        )
    if len(set(password)) < SHORTEST // 3 or name.casefold() in password.casefold():
        raise InputInvalid("this password is easily guessed: leave the name out, and vary it", field="password")


def _normal(password: str) -> str:
    """The same characters typed on another keyboard are the same password."""
    return unicodedata.normalize("NFKC", password)
