import { assertEquals, assertMatch } from "@std/assert";
import {
  changeOrigin,
  type ChangeOutcome,
  changeOutcome,
  type ChangeTest,
  classifyFiltering,
} from "../../lib/nat/filtering.ts";
import type { Probe } from "../../lib/nat/probe.ts";
import { assessServer } from "../../lib/nat/servers.ts";
import { A1P1, A1P2, A2P1, A2P2, answered, probe } from "./probes.ts";

const SERVER = assessServer(A1P1, [answered()]);
const TIMING = { nowMs: 1000, timeoutMs: 15 };

Deno.test("changeOrigin() returns the alternate address and port, or the alternate port alone", () => {
  assertEquals(changeOrigin("change-address-and-port", SERVER), A2P2);
  assertEquals(changeOrigin("change-port", SERVER), A1P2);
  const single = { primary: A1P1, answered: true, isRfc3489: false };
  assertEquals(changeOrigin("change-port", single), undefined);
});

Deno.test("changeOutcome() accepts an answer from the right address as proof", () => {
  const probes = [answered({ test: "change-port" }, { from: A1P2 })];
  assertEquals(changeOutcome("change-port", SERVER, probes, TIMING), {
    kind: "answered",
    from: A1P2,
  });
});

const UNSUPPORTED: readonly [string, Probe, RegExp][] = [
  ["from the address that was asked", answered({ test: "change-port" }), /ignores CHANGE-REQUEST/],
  [
    "from a different address",
    answered({ test: "change-port" }, { from: A2P1 }),
    /not from its alternate address$/,
  ],
  [
    "with an error",
    { ...probe({ test: "change-port" }), reply: { kind: "error", atMs: 9, from: A1P1, code: 420 } },
    /refuses CHANGE-REQUEST \(420\)$/,
  ],
];

for (const [name, change, fault] of UNSUPPORTED) {
  Deno.test(`changeOutcome() treats an answer ${name} as lack of support`, () => {
    const outcome = changeOutcome("change-port", SERVER, [change], TIMING);
    assertEquals(outcome.kind, "unsupported");
    assertMatch(outcome.kind === "unsupported" ? outcome.fault : "", fault);
  });
}

Deno.test("changeOutcome() counts silence only with an answered control, and after the timeout", () => {
  const change = (sentAtMs: number) => probe({ test: "change-port", sentAtMs });
  const rounds = (probes: Probe[], nowMs: number) => {
    const outcome = changeOutcome("change-port", SERVER, probes, { nowMs, timeoutMs: 15 });
    return outcome.kind === "silent" ? outcome.rounds : NaN;
  };
  assertEquals(rounds([], 1000), 0);
  assertEquals(rounds([change(0)], 1000), 0);
  assertEquals(rounds([probe(), change(0)], 1000), 0); // the control was lost as well
  assertEquals(rounds([answered(), change(0)], 64), 0); // the answer may still arrive
  assertEquals(rounds([answered(), change(0)], 65), 1);
  assertEquals(rounds([answered({ sentAtMs: 5 }), change(0)], 1000), 0); // sent at a different time
});

const SILENT: ChangeOutcome = { kind: "silent", rounds: 5 };
const FEW: ChangeOutcome = { kind: "silent", rounds: 4 };
const ANSWERED: ChangeOutcome = { kind: "answered", from: A2P2 };
const BY_PORT: ChangeOutcome = { kind: "answered", from: A1P2 };
const NO_SUPPORT: ChangeOutcome = { kind: "unsupported", fault: "it does not" };
const BOTH: ChangeTest[] = ["change-address-and-port", "change-port"];

const CASES: readonly [string, ChangeOutcome, ChangeOutcome, ChangeTest[], string][] = [
  ["an answer from the alternate address", ANSWERED, FEW, [], "endpoint-independent"],
  ["an answer from the alternate port alone", SILENT, BY_PORT, BOTH, "address-dependent"],
  ["proven silence of both", SILENT, SILENT, BOTH, "address-and-port-dependent"],
  ["silence of a server that is not proven to answer", SILENT, SILENT, [], "unknown"],
  ["silence that is only half proven", SILENT, SILENT, ["change-port"], "unknown"],
  ["too few silent rounds", FEW, BY_PORT, BOTH, "unknown"],
  ["a server without support", NO_SUPPORT, SILENT, BOTH, "unknown"],
  ["a server that supports one of both tests", SILENT, NO_SUPPORT, BOTH, "unknown"],
];

for (const [name, both, port, proven, behavior] of CASES) {
  Deno.test(`classifyFiltering() calls ${name} ${behavior}`, () => {
    const { verdict } = classifyFiltering(
      SERVER,
      { "change-address-and-port": both, "change-port": port },
      { proven: new Set(proven), rounds: 5, lossRate: 0.1, isTranslated: true },
    );
    assertEquals(verdict.behavior, behavior);
    assertEquals(verdict.confidence > 0.99, behavior !== "unknown");
  });
}

Deno.test("classifyFiltering() reports no filter for an open host without NAT", () => {
  const outcome = classifyFiltering(
    SERVER,
    { "change-address-and-port": ANSWERED, "change-port": SILENT },
    { proven: new Set(), rounds: 5, lossRate: 0.1, isTranslated: false },
  );
  assertEquals(outcome.verdict.behavior, "none");
});

Deno.test("classifyFiltering() is less confident if packets are lost", () => {
  const confidence = (lossRate: number) =>
    classifyFiltering(
      SERVER,
      { "change-address-and-port": SILENT, "change-port": SILENT },
      { proven: new Set(BOTH), rounds: 5, lossRate, isTranslated: true },
    ).verdict.confidence;
  assertEquals(confidence(0.1), 0.999);
  assertEquals(confidence(0.5), 1 - 0.5 ** 5);
});

Deno.test("classifyFiltering() reports which tests it still needs", () => {
  const outcome = classifyFiltering(
    SERVER,
    { "change-address-and-port": FEW, "change-port": SILENT },
    { proven: new Set(["change-port"]), rounds: 5, lossRate: 0.1, isTranslated: true },
  );
  assertEquals(outcome.kind === "undecided" && outcome.needs, ["change-address-and-port"]);
});
