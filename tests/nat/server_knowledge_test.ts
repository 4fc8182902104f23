import { assertEquals, assertMatch } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { alternatesOf, isFickle, learnServer } from "../../lib/nat/probe.ts";
import { A1P1, A1P2, A2P1, A2P2, answered, EXTERNAL, probe } from "./probes.ts";

Deno.test("learnServer() knows nothing of a server that has not answered", () => {
  assertEquals(learnServer(A1P1, [probe()]), { primary: A1P1, answered: false, isRfc3489: false });
});

Deno.test("learnServer() takes the alternate address from an answer that came from where it was asked", () => {
  const knowledge = learnServer(A1P1, [probe(), answered()]);
  assertEquals(knowledge, { primary: A1P1, answered: true, isRfc3489: false, alternate: A2P2 });
  const fromElsewhere = learnServer(A1P1, [answered({}, { from: A2P2 })]);
  assertEquals(fromElsewhere.answered, false);
});

Deno.test("learnServer() remembers that a server speaks RFC 3489", () => {
  assertEquals(learnServer(A1P1, [answered({}, { isRfc3489: true })]).isRfc3489, true);
});

const UNFIT: readonly [string, TransportAddress | undefined, RegExp][] = [
  ["none", undefined, /does not serve RFC 5780$/],
  ["the same address", A1P2, /not another address and port$/],
  ["the same port", A2P1, /not another address and port$/],
  ["a private address", { ip: "192.168.1.1", port: 3479 }, /not an address of its kind$/],
  ["a loopback address", { ip: "127.0.0.1", port: 3479 }, /not an address of its kind$/],
  ["a link-local address", { ip: "169.254.169.254", port: 80 }, /not an address of its kind$/],
  ["a multicast address", { ip: "239.1.1.1", port: 3479 }, /not an address of its kind$/],
  ["the broadcast address", { ip: "255.255.255.255", port: 3479 }, /not an address of its kind$/],
  ["another family", { ip: "2001:db8::1", port: 3479 }, /not an address of its kind$/],
  ["a mapped address", { ip: "::ffff:203.0.113.10", port: 3479 }, /not an address of its kind$/],
  ["port 0", { ip: A2P2.ip, port: 0 }, /not an address of its kind$/],
];

for (const [name, other, fault] of UNFIT) {
  Deno.test(`learnServer() does not take ${name} for an alternate address`, () => {
    const knowledge = learnServer(A1P1, [answered({}, { other })]);
    assertEquals([knowledge.answered, knowledge.alternate], [true, undefined]);
    assertMatch(knowledge.fault!, fault);
    assertEquals(alternatesOf(knowledge), []);
  });
}

Deno.test("learnServer() does not take an alternate address that changes", () => {
  const knowledge = learnServer(A1P1, [answered(), answered({}, { other: { ...A2P2, port: 9 } })]);
  assertEquals(knowledge.alternate, undefined);
  assertMatch(knowledge.fault!, /now another alternate address$/);
});

Deno.test("isFickle() finds a server that sees one local port at two places", () => {
  const other = { ...EXTERNAL, port: 6001 };
  const control = answered({ socket: "filtering 0" });
  const change = { socket: "filtering 0", test: "change-port" } as const;
  assertEquals(isFickle(A1P1, [control, answered(change, { mapped: other })]), true);
  assertEquals(isFickle(A1P1, [control, answered(change)]), false);
  // What other destinations see may well differ.
  assertEquals(isFickle(A1P1, [answered(), answered({ to: A2P2 }, { mapped: other })]), false);
});

Deno.test("isFickle() finds a server that sees two local ports at one place", () => {
  assertEquals(isFickle(A1P1, [answered(), answered({ socket: "burst 1" })]), true);
  assertEquals(isFickle(A1P1, [answered(), answered({ socket: "burst 1", to: A2P2 })]), false);
});

Deno.test("alternatesOf() makes the three other transport addresses of two addresses and ports", () => {
  assertEquals(alternatesOf(learnServer(A1P1, [answered()])), [A2P2, A2P1, A1P2]);
});
