/**
 * Peers whose signaling and relays go through a proxy: what each sends, and to whom.
 *
 * @module
 */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Network } from "../../lib/net/network.ts";
import { throughProxy } from "../../lib/net/proxy/client.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { DialPolicy } from "../../lib/peer/dial_policy.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { Peer } from "../../lib/peer/peer.ts";
import { encodeTicket } from "../../lib/peer/mod.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { FakeProxy, httpProxy, socksProxy } from "../net/proxy/fake_proxy.ts";

const { signal } = new AbortController();
const URL_BY_NAME = "ws://meet.example:3480";

/** The system's network, which notes everything that is done with it. */
function watchedNetwork(): { network: Network; done: string[] } {
  const done: string[] = [];
  const noting =
    <A extends unknown[], R>(name: string, call: (...args: A) => R) => (...args: A): R => {
      const [first] = args as unknown[];
      const { ip, port } = Object(first) as TransportAddress;
      done.push(`${name} ${ip === undefined ? first : `${ip}:${port}`}`);
      return call(...args);
    };
  return {
    done,
    network: networkWith(systemNetwork, {
      bindUdp: noting("bindUdp", systemNetwork.bindUdp),
      connectTcp: noting("connectTcp", systemNetwork.connectTcp),
      connectTls: noting("connectTls", systemNetwork.connectTls),
      listenTcp: noting("listenTcp", systemNetwork.listenTcp),
      resolve: noting("resolve", systemNetwork.resolve),
      localAddresses: noting("localAddresses", systemNetwork.localAddresses),
      defaultGateways: noting("defaultGateways", systemNetwork.defaultGateways),
    }),
  };
}

for (const [scheme, make] of [["http", httpProxy], ["socks5", socksProxy]] as const) {
  Deno.test(`with relayOnly, both sides send nothing but to their ${scheme} proxy`, async () => {
    await using server = await serveRendezvous({
      network: systemNetwork,
      local: { ip: "127.0.0.1", port: 0 },
    });
    const targets = new Set<string>();
    await using fake = await FakeProxy.start(
      make({
        routes: new Map([["meet.example:3480", server.local]]),
        onTarget: (target) => targets.add(target),
      }),
    );
    const proxy = `${scheme}://${fake.host}`;
    const watched = [watchedNetwork(), watchedNetwork()] as const;
    const options: PeerOptions = { signaling: [URL_BY_NAME], proxy, relayOnly: true };
    await using listener = await Peer.open({ ...options, network: watched[0].network });
    await using dialer = await Peer.open({
      ...options,
      listen: false,
      network: watched[1].network,
    });
    const [accepted, dialed] = await Promise.all([
      listener.nextIncoming().then((incoming) => incoming.accept()),
      dialer.connect(listener.ticket),
    ]);
    await using _accepted = accepted;
    await using _dialed = dialed;
    await dialed.write(new Uint8Array([1, 2, 3]));
    assertEquals(await accepted.read(new Uint8Array(9)), 3);
    assertEquals([dialed.path.kind, server.relays], ["relay", 1]);
    dialed.close();
    accepted.close();
    const [ip] = fake.host.split(":");
    for (const { done } of watched) {
      // Resolving an address sends nothing.
      assertEquals([...new Set(done)].sort(), [`connectTcp ${fake.host}`, `resolve ${ip}`]);
    }
    assertEquals([...targets], ["meet.example:3480"]);
  });
}

/** A policy through a proxy that nothing may be sent to, over a network that finds these addresses. */
function policyWith(
  options: { named?: string[]; isSealed?: boolean; found?: string[]; allows?: boolean },
): { policy: DialPolicy; lookups: string[]; dials: string[] } {
  const { named = [], isSealed, found = [], allows = false } = options;
  const lookups: string[] = [];
  const dials: string[] = [];
  const refuse = (name: string) => ({ ip }: TransportAddress) => {
    dials.push(`${name} ${ip}`);
    return Promise.reject(new NetworkError("Cannot connect", "refused"));
  };
  const network = networkWith(systemNetwork, {
    resolve: (hostname, family) => {
      lookups.push(hostname);
      const ips = found.filter((ip) => ip.includes(":") === (family === 6));
      if (ips.length > 0) return Promise.resolve(ips);
      return Promise.reject(new NetworkError("Cannot resolve", "name-not-found"));
    },
    connectTcp: refuse("direct"),
  });
  const proxy = throughProxy(network, { url: "http://203.0.113.200:1", noProxy: "intra.example" });
  const policy = new DialPolicy({
    network,
    named,
    allowUrl: () => allows,
    proxy: {
      ...proxy,
      networkFor: (host) =>
        proxy.networkFor(host) === network
          ? network
          : networkWith(proxy.networkFor(host), { connectTcp: refuse("proxy") }),
    },
    isSealed,
  });
  return { policy, lookups, dials };
}

/** Where a dial of the URL goes: the first address of its host. */
async function dialOf(url: string, options: Parameters<typeof policyWith>[0]) {
  const { policy, lookups, dials } = policyWith(options);
  try {
    const network = await policy.networkFor(url, signal);
    const [ip] = await network.resolve(new URL(url).hostname, 4);
    await network.connectTcp({ ip: ip!, port: 80 });
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    if (error.reason !== "refused") return { refused: error.message, lookups };
  }
  return { dials, lookups };
}

Deno.test("a name that the user gave goes to the proxy without a lookup", async () => {
  const { dials, lookups } = await dialOf(URL_BY_NAME, { named: [URL_BY_NAME] });
  assertEquals([dials, lookups], [["proxy 240.0.0.1"], []]);
});

Deno.test("a name of a ticket goes through the proxy only to addresses of the internet, as looked up here", async () => {
  const url = "ws://meet.example";
  const found = await dialOf(url, { found: ["9.9.9.9"] });
  assertEquals(found.dials, ["proxy 9.9.9.9"]);
  const { refused } = await dialOf(url, { found: ["10.0.0.7"] });
  assertStringIncludes(refused ?? "", "10.0.0.7 is");
  assertStringIncludes((await dialOf(url, {})).refused ?? "", "Cannot resolve");
  // In the network of the proxy, this address would be another host.
  assertEquals((await dialOf(url, { found: ["10.0.0.7"], allows: true })).dials, [
    "direct 10.0.0.7",
  ]);
});

Deno.test("an address in a ticket goes through the proxy only if it is on the internet", async () => {
  assertEquals((await dialOf("ws://9.9.9.9", {})).dials, ["proxy 9.9.9.9"]);
  assertStringIncludes((await dialOf("ws://10.0.0.7", {})).refused ?? "", "10.0.0.7 is");
  assertStringIncludes((await dialOf("ws://127.0.0.1", {})).refused ?? "", "127.0.0.1 is");
});

Deno.test("with nothing around the proxy, no name of a ticket is looked up", async () => {
  const named = await dialOf("ws://meet.example", { isSealed: true, found: ["9.9.9.9"] });
  assertEquals(named.lookups, []);
  assertStringIncludes(named.refused ?? "", "only a lookup would tell");
  const literal = await dialOf("ws://9.9.9.9", { isSealed: true });
  assertEquals([literal.dials, literal.lookups], [["proxy 9.9.9.9"], []]);
  const local = await dialOf("ws://192.168.1.1", { isSealed: true, allows: true });
  assertStringIncludes(local.refused ?? "", "192.168.1.1 is");
  const { policy } = policyWith({ isSealed: true });
  await assertRejects(() => policy.networkFor("lan:", signal), NetworkError, "the proxy");
});

Deno.test("hosts of noProxy and loopback go direct if the user named them", async () => {
  const url = "ws://a.intra.example";
  const { dials } = await dialOf(url, { named: [url], found: ["10.1.1.1"] });
  assertEquals(dials, ["direct 10.1.1.1"]);
});

Deno.test("a relay of the other side is judged without a lookup if nothing may go around the proxy", async () => {
  for (const isSealed of [false, true]) {
    const { policy, lookups } = policyWith({ isSealed });
    await policy.whyNotRelay({ ip: "2606:4700::1", port: 50_000 }, signal);
    assertEquals(lookups, isSealed ? [] : ["ipv4only.arpa"]);
  }
});

Deno.test("lan: is no way to meet with relayOnly and a proxy, neither named nor by default nor from a ticket", async () => {
  const options: PeerOptions = { proxy: "http://127.0.0.1:1", relayOnly: true, listen: false };
  await assertRejects(
    () => Peer.open({ ...options, signaling: ["lan:", URL_BY_NAME] }),
    TypeError,
    "goes around the proxy",
  );
  const { network, done } = watchedNetwork();
  const turn = ["turn:user:password@turn.example"];
  await using peer = await Peer.open({ ...options, turn, network });
  const ticket = encodeTicket({
    publicKey: new Uint8Array(32).fill(9),
    secret: new Uint8Array(16),
    signaling: ["lan:"],
  });
  await assertRejects(() => peer.connect(ticket), NetworkError);
  assertEquals(done, []);
});

Deno.test("the URL of a proxy is checked before anything is opened, and its login is not shown", async () => {
  const error = await assertRejects(
    () => Peer.open({ proxy: "http://me:se-cret@/x", signaling: [] }),
    TypeError,
  );
  assertEquals(error.message.includes("se-cret"), false);
});
