"""A process that uses rotating tokens: on threads and on an event loop, as a connector does.

python token_users.py API_URL DATABASE REDIS_URL REQUESTS ACCOUNTS
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx

from arbprov.http import Token, TokenCache

# A token may be used up by other processes before the second try, so a request may need several.
TRIES = 100


def main(url, path, redis, requests, accounts):
    def refresh(account, old):
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS tokens (account, access, refresh)")
            query = "SELECT access, refresh FROM tokens WHERE account = ? ORDER BY rowid DESC"
            stored = database.execute(query, [account]).fetchone()
        if stored and stored[0] != old:
            return Token(stored[0])
        form = {"refresh_token": stored[1] if stored else f"grant-{account}"}
        answer = httpx.post(f"{url}/token", data=form, timeout=30).raise_for_status().json()
        row = [account, answer["access_token"], answer["refresh_token"]]
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database, database:
            database.execute("INSERT INTO tokens VALUES (?, ?, ?)", row)
        return Token(answer["access_token"], answer["expires_in"])

    tokens = TokenCache(refresh, redis=redis)
    names = [str(number % accounts) for number in range(requests)]

    def fetch(name):
        for _ in range(TRIES):
            if client.get("/orders", auth=tokens.httpx_auth(name)).is_success:
                return True
        return False

    async def fetch_all():
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:

            async def fetch_later(name):
                for _ in range(TRIES):
                    if (await client.get("/orders", auth=tokens.httpx_auth(name))).is_success:
                        return True
                return False

            return await asyncio.gather(*map(fetch_later, names))

    with httpx.Client(base_url=url, timeout=30) as client, ThreadPoolExecutor(4) as pool:
        on_loop = pool.submit(asyncio.run, fetch_all())
        done = [*pool.map(fetch, names), *on_loop.result()]
    print(done.count(True))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
