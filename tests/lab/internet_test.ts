import { assertEquals, assertThrows } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { LabInternet } from "../../lab/kernel/internet.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { NatPacket, SessionPacket } from "../../lab/model/nat_packet.ts";
import { parsePacket, rewritePacket } from "../../lab/kernel/ip_packet.ts";
import { nat, planTopology, type Topology } from "../../lab/kernel/topology.ts";

Deno.test("a packet reaches a public host through a NAT, and the answer comes back", () => {
  const net = new TestNetwork({ hosts: { server: {}, a: { behind: nat("symmetricSequential") } } });
  net.send("a", "192.168.1.2:5000", "203.0.113.101:80");
  const [arrived] = net.arrived("server");
  assertEquals(arrived!.split(":")[0], "198.51.100.1");
  net.send("server", "203.0.113.101:80", arrived!.split(" ")[0]!);
  assertEquals(net.arrived("a"), ["203.0.113.101:80 > 192.168.1.2:5000"]);
});

Deno.test("hosts behind one NAT reach each other directly", () => {
  const home = nat("symmetric");
  const net = new TestNetwork({ hosts: { a: { behind: home }, b: { behind: home } } });
  net.send("a", "192.168.1.2:1", "192.168.1.3:2");
  assertEquals(net.arrived("b"), ["192.168.1.2:1 > 192.168.1.3:2"]);
});

Deno.test("a NAT in front of another NAT translates again, and hairpins between the homes behind it", () => {
  const carrier = nat("fullCone");
  const net = new TestNetwork({
    hosts: {
      server: {},
      a: { behind: nat("fullCone", { behind: carrier }) },
      b: { behind: nat("fullCone", { behind: carrier }) },
    },
  });
  net.send("a", "192.168.1.2:5000", "203.0.113.101:80");
  net.send("b", "192.168.2.2:6000", "203.0.113.101:80");
  assertEquals(net.arrived("server"), [
    "198.51.100.1:5000 > 203.0.113.101:80",
    "198.51.100.1:6000 > 203.0.113.101:80",
  ]);
  net.send("a", "192.168.1.2:5000", "198.51.100.1:6000");
  assertEquals(net.arrived("b"), ["198.51.100.1:5000 > 192.168.2.2:6000"]);
});

Deno.test("a firewall admits answers, at the host's own address", () => {
  const net = new TestNetwork({ hosts: { server: {}, a: { behind: nat("firewall") } } });
  net.send("server", "203.0.113.101:80", "203.0.113.102:5000");
  assertEquals(net.arrived("a"), []);
  net.send("a", "203.0.113.102:5000", "203.0.113.101:80");
  net.send("server", "203.0.113.101:80", "203.0.113.102:5000");
  assertEquals(net.arrived("a"), ["203.0.113.101:80 > 203.0.113.102:5000"]);
  assertEquals(net.internet.counters().drops, { "a/nat": { "no-mapping": 1 } });
});

Deno.test("a NAT answers an unsolicited SYN with RST, outside and inside, if so configured", () => {
  const net = new TestNetwork({
    hosts: { server: {}, a: { behind: nat({ unsolicitedSyn: "reset" }) } },
  });
  net.send("server", "203.0.113.101:80", "198.51.100.1:22", SYN);
  assertEquals(net.arrived("server"), ["198.51.100.1:22 > 203.0.113.101:80 RST"]);
  net.send("a", "192.168.1.2:5000", "198.51.100.1:22", SYN);
  assertEquals(net.arrived("a"), ["198.51.100.1:22 > 192.168.1.2:5000 RST"]);
});

Deno.test("a packet takes half the internet's round trip plus the delay of both links", () => {
  const net = new TestNetwork({
    hosts: { server: { link: { delayMs: 3 } }, a: { link: { delayMs: 4 } } },
    internet: { rttMs: 50 },
  });
  net.send("a", "203.0.113.102:1", "203.0.113.101:2");
  net.advance(31.9);
  assertEquals(net.arrived("server"), []);
  assertEquals(net.internet.nextDueMs, 32);
  net.advance(32);
  assertEquals(net.arrived("server").length, 1);
});

Deno.test("the internet adds no delay within a LAN or through a hairpin", () => {
  const home = nat("fullCone");
  const net = new TestNetwork({
    hosts: { a: { behind: home }, b: { behind: home } },
    internet: { rttMs: 50 },
  });
  net.send("b", "192.168.1.3:6000", "203.0.113.1:9");
  net.send("a", "192.168.1.2:5000", "198.51.100.1:6000");
  assertEquals(net.arrived("b"), ["198.51.100.1:5000 > 192.168.1.3:6000"]);
});

Deno.test("jitter varies from zero to its maximum, and reorders packets", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: {} }, internet: { rttMs: 20, jitterMs: 10 } });
  for (let port = 1; port <= 200; port++) net.send("a", "203.0.113.102:1", `203.0.113.101:${port}`);
  net.advance(9.9);
  assertEquals(net.arrived("s"), []);
  net.advance(15);
  const early = net.arrived("s").length;
  assertEquals(early > 60 && early < 140, true);
  net.advance(20);
  const late = net.arrived("s").map((text) => Number(text.split(":").at(-1)));
  assertEquals(late.length, 200 - early);
  assertEquals(late.toSorted((a, b) => a - b) === late, false);
});

Deno.test("each direction loses its configured share of packets", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: { link: { loss: { up: 0.5, down: 0 } } } } });
  for (let i = 0; i < 400; i++) {
    net.send("a", "203.0.113.102:1", "203.0.113.101:2");
    net.send("s", "203.0.113.101:2", "203.0.113.102:1");
  }
  const arrived = net.arrived("s").length;
  assertEquals(arrived > 150 && arrived < 250, true);
  assertEquals(net.arrived("a").length, 400);
  assertEquals(net.internet.counters().drops, { a: { loss: 400 - arrived } });
});

Deno.test("all packets during an outage are lost, and none before or after it", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: {} } });
  net.internet.outage("internet", 10, 20);
  for (const atMs of [9, 10, 19, 20]) {
    net.advance(atMs);
    net.send("a", "203.0.113.102:1", `203.0.113.101:${atMs}`);
  }
  const arrived = net.arrived("s").map((text) => text.split(":").at(-1));
  assertEquals(arrived, ["9", "20"]);
});

Deno.test("a blocked protocol is dropped, and others pass", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: { behind: nat("fullCone") } } });
  net.internet.block("a/nat", ["udp"]);
  net.send("a", "192.168.1.2:5000", "203.0.113.101:2");
  net.send("a", "192.168.1.2:5000", "203.0.113.101:2", SYN);
  assertEquals(net.arrived("s"), ["198.51.100.1:5000 > 203.0.113.101:2 SYN"]);
  net.internet.block("a/nat", []);
  net.send("a", "192.168.1.2:5000", "203.0.113.101:2");
  assertEquals(net.arrived("s").length, 1);
});

Deno.test("the behavior can be changed and the table flushed while packets flow", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: { behind: nat("fullCone") } } });
  net.send("a", "192.168.1.2:5000", "203.0.113.101:2");
  net.internet.setBehavior("a/nat", NAT_BEHAVIORS.portRestricted);
  net.send("s", "203.0.113.101:3", "198.51.100.1:5000");
  assertEquals(net.arrived("a"), []);
  net.internet.flush("a/nat");
  net.send("s", "203.0.113.101:2", "198.51.100.1:5000");
  assertEquals(net.arrived("a"), []);
});

Deno.test("only existing places can be changed, and a NAT cannot become a firewall", () => {
  const { internet } = new TestNetwork({ hosts: { a: { behind: nat("fullCone") } } });
  assertThrows(() => internet.flush("a"), TypeError);
  assertThrows(() => internet.outage("nowhere", 0, 1), TypeError);
  assertThrows(() => internet.setBehavior("a/nat", NAT_BEHAVIORS.firewall), TypeError);
});

Deno.test("drops are counted by place and reason", () => {
  const net = new TestNetwork({ hosts: { s: {}, a: { behind: nat("portRestricted") } } });
  net.send("s", "203.0.113.101:1", "192.0.2.1:1");
  net.send("a", "192.168.1.2:1", "192.168.1.1:5351");
  net.send("s", "203.0.113.101:1", "198.51.100.1:1");
  assertEquals(net.internet.counters().drops, {
    s: { "no-route": 1 },
    "a/nat": { "to-gateway": 1, "no-mapping": 1 },
  });
});

/** An internet in virtual time whose hosts only record what they receive. */
class TestNetwork {
  readonly internet: LabInternet;
  readonly #arrived = new Map<string, string[]>();
  #nowMs = 0;

  constructor(topology: Topology) {
    this.internet = new LabInternet(planTopology(topology), (host, bytes) => {
      this.#arrived.set(host, [...this.#arrived.get(host) ?? [], describe(parsePacket(bytes)!)]);
      return true;
    });
  }

  /** Sends a UDP datagram or the given segment from a host. */
  send(host: string, source: string, destination: string, template = UDP): void {
    const bytes = Uint8Array.fromHex(template);
    const packet = parsePacket(bytes) as SessionPacket;
    const addresses = { source: endpoint(source), destination: endpoint(destination) };
    rewritePacket(bytes, { ...packet, ...addresses });
    this.internet.send(host, bytes, this.#nowMs);
  }

  advance(nowMs: number): void {
    this.#nowMs = nowMs;
    this.internet.advance(nowMs);
  }

  /** What a host has received since the last call. */
  arrived(host: string): string[] {
    const arrived = this.#arrived.get(host) ?? [];
    this.#arrived.delete(host);
    return arrived;
  }
}

function describe(packet: NatPacket): string {
  if (packet.protocol === "icmp-error") return "icmp-error";
  const { source, destination, tcpFlags } = packet;
  const flag = tcpFlags?.rst ? " RST" : tcpFlags?.syn ? " SYN" : "";
  return `${source.ip}:${source.port} > ${destination.ip}:${destination.port}${flag}`;
}

function endpoint(text: string): TransportAddress {
  const [ip, port] = text.split(":") as [string, string];
  return { ip, port: Number(port) };
}

/** Packets of a Linux host, in which addresses and ports are replaced. */
const UDP = "4500001f603f40004011eeaec0a80102c633640213880009000b2d026f6464";
const SYN = "4500003cdcf34000400671e8c0a80102c633640213880009a0f55d4d00000000" +
  "a002faf063ad0000020405b40402080af857f352000000000103030a";
