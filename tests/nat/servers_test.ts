import { assertEquals, assertMatch } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { alternatesOf, assessServer, isInconsistent } from "../../lib/nat/servers.ts";
import { A1P1, A1P2, A2P1, A2P2, answered, EXTERNAL, probe } from "./probes.ts";

Deno.test("assessServer() knows nothing about a server that has not answered", () => {
  assertEquals(assessServer(A1P1, [probe()]), { primary: A1P1, answered: false, isRfc3489: false });
});

Deno.test("assessServer() reads the alternate address only from answers sent by the primary address", () => {
  const assessment = assessServer(A1P1, [probe(), answered()]);
  assertEquals(assessment, { primary: A1P1, answered: true, isRfc3489: false, alternate: A2P2 });
  const fromElsewhere = assessServer(A1P1, [answered({}, { from: A2P2 })]);
  assertEquals(fromElsewhere.answered, false);
});

Deno.test("assessServer() detects a server that speaks RFC 3489", () => {
  assertEquals(assessServer(A1P1, [answered({}, { isRfc3489: true })]).isRfc3489, true);
});

const UNFIT: readonly [string, TransportAddress | undefined, RegExp][] = [
  ["no address", undefined, /does not support RFC 5780$/],
  ["the same address", A1P2, /must differ in address and port$/],
  ["the same port", A2P1, /must differ in address and port$/],
  ["a private address", { ip: "192.168.1.1", port: 3479 }, /not the same kind of address$/],
  ["a loopback address", { ip: "127.0.0.1", port: 3479 }, /not the same kind of address$/],
  ["a link-local address", { ip: "169.254.169.254", port: 80 }, /not the same kind of address$/],
  ["a multicast address", { ip: "239.1.1.1", port: 3479 }, /not the same kind of address$/],
  ["the broadcast address", { ip: "255.255.255.255", port: 3479 }, /not the same kind of address$/],
  ["another family", { ip: "2001:db8::1", port: 3479 }, /not the same kind of address$/],
  ["a mapped address", { ip: "::ffff:203.0.113.10", port: 3479 }, /not the same kind of address$/],
  ["port 0", { ip: A2P2.ip, port: 0 }, /not the same kind of address$/],
];

for (const [name, other, fault] of UNFIT) {
  Deno.test(`assessServer() rejects ${name} as alternate address`, () => {
    const assessment = assessServer(A1P1, [answered({}, { other })]);
    assertEquals([assessment.answered, assessment.alternate], [true, undefined]);
    assertMatch(assessment.fault!, fault);
    assertEquals(alternatesOf(assessment), []);
  });
}

Deno.test("assessServer() rejects an alternate address that changes", () => {
  const assessment = assessServer(A1P1, [
    answered(),
    answered({}, { other: { ...A2P2, port: 9 } }),
  ]);
  assertEquals(assessment.alternate, undefined);
  assertMatch(assessment.fault!, /reports different alternate addresses/);
});

Deno.test("isInconsistent() detects two external addresses for one local port", () => {
  const other = { ...EXTERNAL, port: 6001 };
  const control = answered({ socket: "filtering 0" });
  const change = { socket: "filtering 0", test: "change-port" } as const;
  assertEquals(isInconsistent(A1P1, [control, answered(change, { mapped: other })]), true);
  assertEquals(isInconsistent(A1P1, [control, answered(change)]), false);
  // Other destinations may see different addresses.
  assertEquals(
    isInconsistent(A1P1, [answered(), answered({ to: A2P2 }, { mapped: other })]),
    false,
  );
});

Deno.test("isInconsistent() detects one external address for two local ports", () => {
  assertEquals(isInconsistent(A1P1, [answered(), answered({ socket: "burst 1" })]), true);
  assertEquals(
    isInconsistent(A1P1, [answered(), answered({ socket: "burst 1", to: A2P2 })]),
    false,
  );
});

Deno.test("alternatesOf() returns the three other combinations of address and port", () => {
  assertEquals(alternatesOf(assessServer(A1P1, [answered()])), [A2P2, A2P1, A1P2]);
});
