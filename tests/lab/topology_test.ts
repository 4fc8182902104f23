import { assertEquals, assertThrows } from "@std/assert";
import { INTERNET, nat, planTopology } from "../../lab/kernel/topology.ts";

Deno.test("planTopology() names NATs after the first host or NAT behind them", () => {
  const home = nat("portRestricted", { behind: nat("symmetric") });
  const plan = planTopology({ hosts: { server: {}, a: { behind: home }, b: { behind: home } } });
  assertEquals(plan.nats.map(({ name, segment }) => [name, segment]), [
    ["a/nat/nat", INTERNET],
    ["a/nat", "a/nat/nat"],
  ]);
  assertEquals(plan.hosts.map(({ name, segment }) => [name, segment]), [
    ["server", INTERNET],
    ["a", "a/nat"],
    ["b", "a/nat"],
  ]);
});

Deno.test("planTopology() assigns public, carrier and home addresses", () => {
  const home = nat("portRestricted", { behind: nat("symmetric") });
  const plan = planTopology({
    hosts: { server: {}, a: { behind: home }, b: { behind: home }, c: { behind: nat("fullCone") } },
  });
  const [server, a, b, c] = plan.hosts.map(({ ipv4 }) => ipv4);
  assertEquals([server, a, b, c], [
    ["203.0.113.101"],
    ["192.168.2.2"],
    ["192.168.2.3"],
    ["192.168.1.2"],
  ]);
  assertEquals(plan.nats.map(({ externalIps, gateway }) => [externalIps, gateway]), [
    [["198.51.100.1"], "100.64.1.1"],
    [["198.51.100.2"], "192.168.1.1"],
    [["100.64.1.129"], "192.168.2.1"],
  ]);
});

Deno.test("planTopology() keeps the addresses, LANs and names of the topology", () => {
  const plan = planTopology({
    hosts: {
      server: { addresses: ["203.0.113.10", "203.0.113.11", "2001:db8::1"] },
      a: {
        behind: nat("symmetric", { name: "x", addresses: ["198.51.100.9"], lan: "192.168.1.0" }),
      },
      b: { behind: nat("symmetric", { lan: "192.168.1.0" }) },
    },
  });
  assertEquals(plan.hosts[0]!.ipv4, ["203.0.113.10", "203.0.113.11"]);
  assertEquals(plan.hosts[0]!.ipv6, ["2001:db8::1"]);
  assertEquals(plan.nats[0]!.name, "x");
  assertEquals(plan.nats[0]!.externalIps, ["198.51.100.9"]);
  assertEquals([plan.hosts[1]!.ipv4, plan.hosts[2]!.ipv4], [["192.168.1.2"], ["192.168.1.2"]]);
});

Deno.test("planTopology() assigns public addresses to hosts behind a firewall", () => {
  const plan = planTopology({ hosts: { server: {}, a: { behind: nat("firewall") } } });
  assertEquals(plan.hosts[1]!.ipv4, ["203.0.113.102"]);
  assertEquals(plan.hosts[1]!.gateway, undefined);
  assertEquals(plan.nats[0]!.externalIps, []);
});

Deno.test("planTopology() assigns a global IPv6 address to every host with `ipv6`", () => {
  const home = nat("fullCone");
  const plan = planTopology({
    hosts: { server: {}, a: { behind: home }, b: { behind: home } },
    ipv6: true,
  });
  assertEquals(plan.hosts.flatMap(({ ipv6 }) => ipv6), [
    "2001:db8:1::2",
    "2001:db8:2::2",
    "2001:db8:2::3",
  ]);
});

Deno.test("planTopology() fills in links and halves the round trip across the internet", () => {
  const plan = planTopology({
    hosts: { a: { link: { delayMs: 5, loss: { up: 0.1, down: 0 } } } },
    internet: { rttMs: 50, jitterMs: 2, loss: 0.05 },
  });
  assertEquals(plan.internet, {
    delayMs: { up: 25, down: 25 },
    jitterMs: 2,
    loss: { up: 0.05, down: 0.05 },
  });
  assertEquals(plan.hosts[0]!.link, {
    delayMs: { up: 5, down: 5 },
    jitterMs: 0,
    loss: { up: 0.1, down: 0 },
  });
});

Deno.test("planTopology() gives a line a buffer of 100 ms by default", () => {
  const plan = planTopology({ hosts: { a: { link: { megabitsPerSecond: 8 } } } });
  assertEquals(plan.hosts[0]!.link.line, { bytesPerMs: 1000, bufferBytes: 100_000 });
});

Deno.test("planTopology() rejects a name that is taken", () => {
  const twice = {
    a: { behind: nat("fullCone", { name: "n" }) },
    b: { behind: nat("fullCone", { name: "n" }) },
  };
  assertThrows(() => planTopology({ hosts: twice }), TypeError, "n is taken");
  assertThrows(
    () => planTopology({ hosts: { a: { behind: nat("fullCone", { name: "a" }) } } }),
    TypeError,
  );
  assertThrows(() => planTopology({ hosts: { [INTERNET]: {} } }), TypeError);
});
