// Signaling in a LAN with an attacker in it, and on hosts whose interfaces come and go.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { toBase64url } from "../../lib/base/bytes.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { LocalAddress, Network } from "../../lib/net/network.ts";
import { openReconnecting } from "../../lib/signal/open.ts";
import { encodeLanMessage, LAN_GROUP, LAN_PORT, lanTransport } from "../../lib/signal/lan.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const ID = new Uint8Array(8);

Deno.test("a forged message with the same id does not suppress the genuine one", () =>
  inLan(async ({ subscriber, send }) => {
    await send(encodeLanMessage(ID, TOPIC, toBytes("forged")));
    await send(encodeLanMessage(ID, TOPIC, toBytes("genuine")));
    await delay(100);
    assertEquals(subscriber.received, ["forged", "genuine"]);
  }));

Deno.test("messages of other topics do not push a seen message out of memory", () =>
  inLan(async ({ subscriber, send }) => {
    const genuine = encodeLanMessage(ID, TOPIC, toBytes("genuine"));
    await send(genuine);
    await delay(10_000);
    for (let i = 0; i < 5000; i++) {
      const topic = toBase64url(crypto.getRandomValues(new Uint8Array(16)));
      await send(encodeLanMessage(ID, topic, new Uint8Array(0)));
      if (i % 50 === 49) await delay(1000);
    }
    await send(genuine);
    await delay(100);
    assertEquals(subscriber.received, ["genuine"]);
  }));

Deno.test("a flood from one source is limited, and other sources still get through", () =>
  inLan(async ({ subscriber, send, sendAsOther }) => {
    for (let i = 0; i < 5000; i++) {
      await send(encodeLanMessage(ID, TOPIC, toBytes(`flood ${i}`)));
      if (i % 50 === 49) await delay(1);
    }
    await sendAsOther(encodeLanMessage(ID, TOPIC, toBytes("genuine")));
    await delay(100);
    assertEquals(subscriber.received.at(-1), "genuine");
    assert(subscriber.received.length < 1100, `${subscriber.received.length} were received`);
  }));

Deno.test("junk in a peer's name does not silence the peer", () =>
  inLan(async ({ subscriber, send, sendAsPeer }) => {
    for (let i = 0; i < 5000; i++) {
      const topic = toBase64url(crypto.getRandomValues(new Uint8Array(16)));
      await send(i % 2 === 0 ? toBytes("junk") : encodeLanMessage(ID, topic, toBytes("junk")));
      if (i % 50 === 49) await delay(1);
    }
    await sendAsPeer(toBytes("genuine"));
    await delay(100);
    assertEquals(subscriber.received, ["genuine"]);
  }));

Deno.test("a message that is sent again and again in a peer's name does not silence the peer", () =>
  inLan(async ({ subscriber, send, sendAsPeer }) => {
    const replayed = encodeLanMessage(ID, TOPIC, toBytes("replayed"));
    for (let i = 0; i < 5000; i++) {
      await send(replayed);
      if (i % 50 === 49) await delay(1);
    }
    await sendAsPeer(toBytes("genuine"));
    await delay(100);
    assertEquals(subscriber.received, ["replayed", "genuine"]);
  }));

Deno.test("a message that is too long is dropped", () =>
  inLan(async ({ subscriber, send }) => {
    await send(encodeLanMessage(ID, TOPIC, new Uint8Array(4097)));
    await delay(100);
    assertEquals(subscriber.received, []);
  }));

Deno.test("a host with two addresses on one link joins the group there once", () =>
  withInterfaces(async ({ network, addresses, joined }) => {
    addresses.push({ interfaceName: "eth0", ip: "10.9.0.1" }, {
      interfaceName: "eth0",
      ip: "10.9.0.2",
    });
    await using _signaling = await lanTransport().open({ network });
    assertEquals(joined, [["10.9.0.1"]]);
  }));

Deno.test("an interface without multicast does not disable the others", () =>
  withInterfaces(async ({ network, addresses, unable, joined }) => {
    addresses.push({ interfaceName: "eth0", ip: "10.9.0.1" }, {
      interfaceName: "tun0",
      ip: "10.9.0.2",
    });
    unable.add("10.9.0.2");
    await using signaling = await lanTransport().open({ network });
    assertEquals(joined.at(-1), ["10.9.0.1"]);
    await signaling.publish(TOPIC, toBytes("hello"));
  }));

Deno.test("open() rejects if no interface supports multicast", () =>
  withInterfaces(async ({ network, addresses, unable }) => {
    for (const ip of ["10.9.0.1", "10.9.0.2"]) {
      addresses.push({ interfaceName: `tun ${ip}`, ip });
      unable.add(ip);
    }
    await assertRejects(() => lanTransport().open({ network }), NetworkError, "no multicast");
  }));

Deno.test("a host whose address changes is reached at the new one, with its subscriptions", () =>
  withInterfaces(async ({ network, addresses, joined, neighbor }) => {
    addresses.push({ interfaceName: "eth0", ip: "10.9.0.1" });
    await using signaling = await openReconnecting(lanTransport(), { network });
    await using other = await lanTransport().open({ network: neighbor });
    const received: string[] = [];
    await signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
    addresses[0] = { interfaceName: "eth1", ip: "10.9.0.2" };
    await delay(20_000);
    assertEquals(joined, [["10.9.0.1"], ["10.9.0.2"]]);
    await other.publish(TOPIC, toBytes("hello"));
    await delay(100);
    assertEquals(received, ["hello"]);
  }));

/** A subscriber, and two other hosts that send what they like. */
function inLan(
  job: (lan: {
    subscriber: { received: string[] };
    send(datagram: Uint8Array): Promise<void>;
    sendAsOther(datagram: Uint8Array): Promise<void>;
    /** Publishes from the same host as `send()`, as the peer that the attacker pretends to be. */
    sendAsPeer(message: Uint8Array): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const home = newHome(internet);
    const [a, b, c] = ["a", "b", "c"].map((name) => internet.host(name, { behind: home }).network);
    {
      await using signaling = await lanTransport().open({ network: a! });
      const received: string[] = [];
      await signaling.subscribe(TOPIC, (message) => received.push(toText(message)));
      using attacker = await b!.bindUdp({ ip: "0.0.0.0", port: 0 });
      using other = await c!.bindUdp({ ip: "0.0.0.0", port: 0 });
      const group = { ip: LAN_GROUP, port: LAN_PORT };
      await job({
        subscriber: { received },
        send: (datagram) => attacker.send(datagram, group),
        sendAsOther: (datagram) => other.send(datagram, group),
        sendAsPeer: async (message) => {
          await using peer = await lanTransport().open({ network: b! });
          await peer.publish(TOPIC, message);
        },
      });
    }
    assertEquals(time.pendingTimers, 0);
  });
}

/** A host whose interfaces the test chooses. */
function withInterfaces(
  job: (host: {
    network: Network;
    /** May be changed at any time. */
    addresses: LocalAddress[];
    /** The addresses of interfaces that cannot join a group. */
    unable: Set<string>;
    /** The interfaces of each socket that joined the group. */
    joined: string[][];
    neighbor: Network;
  }) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const home = newHome(internet);
    const host = internet.host("host", { behind: home, addresses: ["10.9.0.1", "10.9.0.2"] });
    const { network: neighbor } = internet.host("b", { behind: home });
    const addresses: LocalAddress[] = [];
    const unable = new Set<string>();
    const joined: string[][] = [];
    const network: Network = {
      ...host.network,
      localAddresses: () => Promise.resolve([...addresses]),
      bindUdp: async (local, options) => {
        const ips = options?.multicast?.groups?.map(({ interfaceIp }) => interfaceIp) ?? [];
        if (ips.some((ip) => unable.has(ip))) {
          throw new NetworkError(`Cannot bind UDP ${local.ip}: no multicast`, "other");
        }
        if (ips.length > 0) joined.push(ips);
        return await host.network.bindUdp(local, options);
      },
    };
    await job({ network, addresses, unable, joined, neighbor });
  });
}

function newHome(internet: Internet) {
  return internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
}
