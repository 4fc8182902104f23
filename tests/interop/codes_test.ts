// Codes through mosquitto, where anybody can listen to everything.

import { assert, assertEquals } from "@std/assert";
import type { CodeEvent } from "../../lib/code/offer.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { MOSQUITTO, Mosquitto } from "./mosquitto.ts";
import { toolTest } from "./tool_test_case.ts";

toolTest("a code hands a ticket over through a broker", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start();
  const signaling = [broker.url("mqtt")];
  const options = { signaling, servers: [], mapPorts: false };
  await using sender = await Peer.open(options);
  await using receiver = await Peer.open({ ...options, listen: false });
  const events: CodeEvent[] = [];
  await using offer = await sender.offerCode({ onEvent: (event) => events.push(event) });
  const code = offer.code!;
  assertEquals(await receiver.redeemCode(code), sender.ticket);
  assertEquals(events.map(({ kind }) => kind), ["offered", "spent"]);
});

toolTest("two senders at one broker notice that they drew the same number", MOSQUITTO, async () => {
  await using broker = await Mosquitto.start();
  const options = { signaling: [broker.url("mqtt")], servers: [], mapPorts: false };
  await using one = await Peer.open(options);
  await using other = await Peer.open(options);
  await using first = await one.offerCode();
  const number = Number(first.code!.split("-")[0]);
  const { getRandomValues } = crypto;
  const numbers = [number, number, 4321];
  crypto.getRandomValues = <T extends ArrayBufferView | null>(array: T): T => {
    const filled = getRandomValues.call(crypto, array!) as T;
    if (filled instanceof Uint32Array) filled[0] = numbers.shift() ?? 1234;
    return filled;
  };
  try {
    await using second = await other.offerCode();
    assertEquals(second.code!.split("-")[0], "4321");
    assert(first.code!.startsWith(`${number}-`));
  } finally {
    crypto.getRandomValues = getRandomValues;
  }
});
