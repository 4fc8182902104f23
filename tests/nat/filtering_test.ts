import { assertEquals, assertMatch } from "@std/assert";
import {
  changeOrigin,
  type ChangeOutcome,
  changeOutcome,
  type ChangeTest,
  classifyFiltering,
} from "../../lib/nat/filtering.ts";
import type { Probe } from "../../lib/nat/probe.ts";
import { learnServer } from "../../lib/nat/probe.ts";
import { A1P1, A1P2, A2P1, A2P2, answered, probe } from "./probes.ts";

const SERVER = learnServer(A1P1, [answered()]);
const PATIENCE = { nowMs: 1000, timeoutMs: 15 };

Deno.test("changeOrigin() is the other address and port, or the other port alone", () => {
  assertEquals(changeOrigin("change-address-and-port", SERVER), A2P2);
  assertEquals(changeOrigin("change-port", SERVER), A1P2);
  const single = { primary: A1P1, answered: true, isRfc3489: false };
  assertEquals(changeOrigin("change-port", single), undefined);
});

Deno.test("changeOutcome() takes an answer from the right address as proof", () => {
  const probes = [answered({ test: "change-port" }, { from: A1P2 })];
  assertEquals(changeOutcome("change-port", SERVER, probes, PATIENCE), {
    kind: "answered",
    from: A1P2,
  });
});

const NOT_SERVED: readonly [string, Probe, RegExp][] = [
  ["from where it was asked", answered({ test: "change-port" }), /ignores CHANGE-REQUEST/],
  [
    "from elsewhere",
    answered({ test: "change-port" }, { from: A2P1 }),
    /not from where it says$/,
  ],
  [
    "with an error",
    { ...probe({ test: "change-port" }), reply: { kind: "error", atMs: 9, from: A1P1, code: 420 } },
    /refuses CHANGE-REQUEST \(420\)$/,
  ],
];

for (const [name, change, fault] of NOT_SERVED) {
  Deno.test(`changeOutcome() takes an answer ${name} for a server that does not serve it`, () => {
    const outcome = changeOutcome("change-port", SERVER, [change], PATIENCE);
    assertEquals(outcome.kind, "not-served");
    assertMatch(outcome.kind === "not-served" ? outcome.fault : "", fault);
  });
}

Deno.test("changeOutcome() counts silence only beside an answered control, and after its patience", () => {
  const change = (sentAtMs: number) => probe({ test: "change-port", sentAtMs });
  const rounds = (probes: Probe[], nowMs: number) => {
    const outcome = changeOutcome("change-port", SERVER, probes, { nowMs, timeoutMs: 15 });
    return outcome.kind === "silent" ? outcome.rounds : NaN;
  };
  assertEquals(rounds([], 1000), 0);
  assertEquals(rounds([change(0)], 1000), 0);
  assertEquals(rounds([probe(), change(0)], 1000), 0); // the control was lost as well
  assertEquals(rounds([answered(), change(0)], 64), 0); // it may still come
  assertEquals(rounds([answered(), change(0)], 65), 1);
  assertEquals(rounds([answered({ sentAtMs: 5 }), change(0)], 1000), 0); // another moment
});

const SILENT: ChangeOutcome = { kind: "silent", rounds: 5 };
const FEW: ChangeOutcome = { kind: "silent", rounds: 4 };
const ANSWERED: ChangeOutcome = { kind: "answered", from: A2P2 };
const BY_PORT: ChangeOutcome = { kind: "answered", from: A1P2 };
const NO_SERVICE: ChangeOutcome = { kind: "not-served", fault: "it does not" };
const BOTH: ChangeTest[] = ["change-address-and-port", "change-port"];

const CASES: readonly [string, ChangeOutcome, ChangeOutcome, ChangeTest[], string][] = [
  ["an answer from the other address", ANSWERED, FEW, [], "endpoint-independent"],
  ["an answer from the other port alone", SILENT, BY_PORT, BOTH, "address-dependent"],
  ["proven silence of both", SILENT, SILENT, BOTH, "address-and-port-dependent"],
  ["silence of a server that has not shown that it answers", SILENT, SILENT, [], "unknown"],
  ["silence, half of it proven", SILENT, SILENT, ["change-port"], "unknown"],
  ["too few silent rounds", FEW, BY_PORT, BOTH, "unknown"],
  ["a server that does not serve it", NO_SERVICE, SILENT, BOTH, "unknown"],
  ["a server that serves half of it", SILENT, NO_SERVICE, BOTH, "unknown"],
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

Deno.test("classifyFiltering() finds no filter in front of a host without NAT", () => {
  const outcome = classifyFiltering(
    SERVER,
    { "change-address-and-port": ANSWERED, "change-port": SILENT },
    { proven: new Set(), rounds: 5, lossRate: 0.1, isTranslated: false },
  );
  assertEquals(outcome.verdict.behavior, "none");
});

Deno.test("classifyFiltering() is less sure where packets are lost", () => {
  const confidence = (lossRate: number) =>
    classifyFiltering(
      SERVER,
      { "change-address-and-port": SILENT, "change-port": SILENT },
      { proven: new Set(BOTH), rounds: 5, lossRate, isTranslated: true },
    ).verdict.confidence;
  assertEquals(confidence(0.1), 0.999);
  assertEquals(confidence(0.5), 1 - 0.5 ** 5);
});

Deno.test("classifyFiltering() says what it still wants", () => {
  const outcome = classifyFiltering(
    SERVER,
    { "change-address-and-port": FEW, "change-port": SILENT },
    { proven: new Set(["change-port"]), rounds: 5, lossRate: 0.1, isTranslated: true },
  );
  assertEquals(outcome.kind === "undecided" && outcome.wants, ["change-address-and-port"]);
});
