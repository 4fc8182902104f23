// Signals in a LAN with somebody in it who means no good, and on hosts whose interfaces come and go.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { toBase64url } from "../../lib/base/bytes.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { LocalAddress, Network } from "../../lib/net/network.ts";
import { openReconnecting } from "../../lib/signal/reconnecting.ts";
import { encodeLanMessage } from "../../lib/signal/lan.ts";
import { LAN_GROUP, LAN_PORT, lanTransport } from "../../lib/signal/lan.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { toBytes, toText } from "../simnet/fixtures.ts";
import type { Internet } from "../simnet/internet.ts";
import { simulate } from "../simnet/simulate.ts";

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const ID = new Uint8Array(8);

Deno.test("who is faster cannot have a message taken for one that is known", () =>
  inLan(async ({ listener, say }) => {
    await say(encodeLanMessage(ID, TOPIC, toBytes("forged")));
    await say(encodeLanMessage(ID, TOPIC, toBytes("genuine")));
    await delay(100);
    assertEquals(listener.heard, ["forged", "genuine"]);
  }));

Deno.test("what is said under other topics does not make a listener forget what it has heard", () =>
  inLan(async ({ listener, say }) => {
    const genuine = encodeLanMessage(ID, TOPIC, toBytes("genuine"));
    await say(genuine);
    await delay(10_000);
    for (let i = 0; i < 5000; i++) {
      const topic = toBase64url(crypto.getRandomValues(new Uint8Array(16)));
      await say(encodeLanMessage(ID, topic, new Uint8Array(0)));
      if (i % 50 === 49) await delay(1000);
    }
    await say(genuine);
    await delay(100);
    assertEquals(listener.heard, ["genuine"]);
  }));

Deno.test("a flood from one source is heard as far as its allowance goes, and others still are", () =>
  inLan(async ({ listener, say, sayAsOther }) => {
    for (let i = 0; i < 5000; i++) {
      await say(encodeLanMessage(ID, TOPIC, toBytes(`flood ${i}`)));
      if (i % 50 === 49) await delay(1);
    }
    await sayAsOther(encodeLanMessage(ID, TOPIC, toBytes("genuine")));
    await delay(100);
    assertEquals(listener.heard.at(-1), "genuine");
    assert(listener.heard.length < 1100, `${listener.heard.length} were heard`);
  }));

Deno.test("a message that is too long is not heard", () =>
  inLan(async ({ listener, say }) => {
    await say(encodeLanMessage(ID, TOPIC, new Uint8Array(4097)));
    await delay(100);
    assertEquals(listener.heard, []);
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

Deno.test("an interface that takes no multicast does not keep others from it", () =>
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

Deno.test("a host none of whose interfaces takes multicast is told so", () =>
  withInterfaces(async ({ network, addresses, unable }) => {
    for (const ip of ["10.9.0.1", "10.9.0.2"]) {
      addresses.push({ interfaceName: `tun ${ip}`, ip });
      unable.add(ip);
    }
    await assertRejects(() => lanTransport().open({ network }), NetworkError, "no multicast");
  }));

Deno.test("a host that gets another address is heard from that, with all that it listens to", () =>
  withInterfaces(async ({ network, addresses, joined, neighbour }) => {
    addresses.push({ interfaceName: "eth0", ip: "10.9.0.1" });
    await using signaling = await openReconnecting(lanTransport(), { network });
    await using other = await lanTransport().open({ network: neighbour });
    const heard: string[] = [];
    await signaling.subscribe(TOPIC, (message) => heard.push(toText(message)));
    addresses[0] = { interfaceName: "eth1", ip: "10.9.0.2" };
    await delay(20_000);
    assertEquals(joined, [["10.9.0.1"], ["10.9.0.2"]]);
    await other.publish(TOPIC, toBytes("hello"));
    await delay(100);
    assertEquals(heard, ["hello"]);
  }));

/** A listener, and two others who say what they like. */
function inLan(
  job: (lan: {
    listener: { heard: string[] };
    say(datagram: Uint8Array): Promise<void>;
    sayAsOther(datagram: Uint8Array): Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet, time }) => {
    const home = newHome(internet);
    const [a, b, c] = ["a", "b", "c"].map((name) => internet.host(name, { behind: home }).network);
    {
      await using signaling = await lanTransport().open({ network: a! });
      const heard: string[] = [];
      await signaling.subscribe(TOPIC, (message) => heard.push(toText(message)));
      using attacker = await b!.bindUdp({ ip: "0.0.0.0", port: 0 });
      using other = await c!.bindUdp({ ip: "0.0.0.0", port: 0 });
      const group = { ip: LAN_GROUP, port: LAN_PORT };
      await job({
        listener: { heard },
        say: (datagram) => attacker.send(datagram, group),
        sayAsOther: (datagram) => other.send(datagram, group),
      });
    }
    assertEquals(time.pendingTimers, 0);
  });
}

/** A host whose interfaces are those that the test says. */
function withInterfaces(
  job: (host: {
    network: Network;
    /** May be changed at any time. */
    addresses: LocalAddress[];
    /** Of interfaces that cannot join a group. */
    unable: Set<string>;
    /** The interfaces of each socket that joined the group. */
    joined: string[][];
    neighbour: Network;
  }) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const home = newHome(internet);
    const host = internet.host("host", { behind: home, addresses: ["10.9.0.1", "10.9.0.2"] });
    const { network: neighbour } = internet.host("b", { behind: home });
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
    await job({ network, addresses, unable, joined, neighbour });
  });
}

function newHome(internet: Internet) {
  return internet.router("home", { behavior: NAT_BEHAVIORS.portRestricted });
}
