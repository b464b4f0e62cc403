"""A PostgreSQL database: a pool for the provider's life, transactions, and clear errors.

Run `pip install "psycopg[binary,pool]"` first. The example creates three tables in the database:

    export DATABASE_URL=postgresql://user:password@localhost/shop
    arbprov dev examples/database.py --tasks examples/database.jsonl
"""

import os
from typing import Any

import attrs
from psycopg import IntegrityError, OperationalError
from psycopg_pool import AsyncConnectionPool

from arbprov import ProviderApp, ProviderResponse

app = ProviderApp("shop", execution_timeout=5)

pool = AsyncConnectionPool(os.environ.get("DATABASE_URL", ""), open=False, timeout=2)

# In a real provider, migrations create the tables. Each constraint has a name for its message.
TABLES = """
CREATE TABLE IF NOT EXISTS stock (
    article text PRIMARY KEY,
    quantity integer NOT NULL CONSTRAINT enough_stock CHECK (quantity >= 0)
);
CREATE TABLE IF NOT EXISTS orders (
    id text CONSTRAINT new_order PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS order_lines (
    order_id text NOT NULL REFERENCES orders,
    article text NOT NULL CONSTRAINT known_article REFERENCES stock,
    quantity integer NOT NULL CONSTRAINT some_quantity CHECK (quantity > 0)
);
INSERT INTO stock VALUES ('tea', 10), ('cup', 2) ON CONFLICT DO NOTHING;
"""
BROKEN_RULES = {
    "enough_stock": "There is not enough in stock",
    "new_order": "There is an order of this id already",
    "known_article": "There is no such article",
    "some_quantity": "A quantity is at least 1",
}


@attrs.frozen
class Line:
    article: str
    quantity: int


@app.on_startup
async def open_pool() -> None:
    await pool.open(wait=True, timeout=5)
    async with pool.connection() as connection:
        await connection.execute(TABLES)


@app.on_shutdown
async def close_pool() -> None:
    await pool.close()


@app.action
async def order(id: str, lines: list[Line]) -> dict[str, Any]:
    """Take all lines of an order from the stock, or none."""
    # The connection is a transaction: committed at the end, rolled back by any error.
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO orders VALUES (%s)", [id])
        # All orders lock articles in the same sequence, so that there is no deadlock.
        for line in sorted(lines, key=lambda line: line.article):
            await connection.execute(
                "INSERT INTO order_lines VALUES (%s, %s, %s)", [id, line.article, line.quantity]
            )
            await connection.execute(
                "UPDATE stock SET quantity = quantity - %s WHERE article = %s",
                [line.quantity, line.article],
            )
    return {"ordered": sum(line.quantity for line in lines)}


@app.action
async def stock() -> dict[str, int]:
    """Return how much is left of each article."""
    async with pool.connection() as connection:
        rows = await connection.execute("SELECT article, quantity FROM stock ORDER BY article")
        return {article: quantity async for article, quantity in rows}


@app.errorhandler(IntegrityError)
def refused(error: IntegrityError) -> ProviderResponse:
    rule = error.diag.constraint_name or "unknown"
    message = BROKEN_RULES.get(rule, "The data break a rule of the database")
    return ProviderResponse("error", message=message, data={"rule": rule})


@app.errorhandler(OperationalError)
async def unavailable(error: OperationalError) -> ProviderResponse:
    # A restart of the database breaks all connections; throw them away now, not task by task.
    await pool.check()
    return ProviderResponse("error", message="The database does not answer; try again later")


if __name__ == "__main__":
    app.run()
