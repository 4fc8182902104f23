import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { ConnectivityChecks } from "../../lib/punch/checks.ts";
import type { NominationOutcome } from "../../lib/punch/nomination.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";
import type { Host, HostOptions } from "../simnet/host.ts";
import { punchSide } from "./fixtures.ts";
import { simulate } from "../simnet/simulate.ts";

Deno.test("Dialing hands over a connection and says where it left from", () =>
  dial({}, async ({ there, run, traces }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    await run([group({ targets: [{ ip: THERE, port: 80 }] })]);
    assertEquals(traces(), ["connected, 1 try, 0 resets, from :40000"]);
  }));

Deno.test("Dialing dials again at once when it is reset, as often as the plan says", () =>
  dial({}, async ({ run, traces, nowMs }) => {
    await run([group({ maxTries: 50 })]);
    assertEquals(traces(), ["refused, 50 tries, 50 resets, from -"]);
    const perTryMs = nowMs() / 50;
    assert(perTryMs >= 20 && perTryMs < 24, `${perTryMs} ms`); // a round trip of 20, and the jitter
  }));

Deno.test("Dialing dials a hundred times at once, and then slowly", () =>
  dial({}, async ({ run, traces, nowMs }) => {
    await run([group({ maxTries: 110 })]);
    assertEquals(traces(), ["refused, 110 tries, 110 resets, from -"]);
    assert(nowMs() > 99 * 20 + 11 * 70 - 20, `${nowMs()} ms`);
  }));

Deno.test("Dialing gives up in time while it is reset", () =>
  dial({}, async ({ run, traces, nowMs }) => {
    await run([group({ maxTries: 10_000, timeoutMs: 500 })]);
    assert(nowMs() <= 501, `${nowMs()} ms`);
    assert(/^(timed-out|refused), 2\d tries, 2\d resets/.test(traces()[0]!), traces()[0]);
  }));

Deno.test("Dialing redials after an ICMP error", () =>
  dial({ fault: "host-unreachable" }, async ({ run, traces }) => {
    await run([group({ maxTries: 3 })]);
    assertEquals(traces(), ["unreachable, 3 tries, 0 resets, from -"]);
  }));

Deno.test("Dialing leaves a socket alone that waits for an answer", () =>
  dial({ fault: "silent" }, async ({ run, traces, nowMs }) => {
    await run([group({ maxTries: 100, timeoutMs: 5000 })]);
    assertEquals(traces(), ["timed-out, 1 try, 0 resets, from -"]);
    assertEquals(Math.round(nowMs()), 5000);
  }));

Deno.test("Dialing dials a connection again that breaks, as often as the plan says", () =>
  dial({}, async ({ there, run, traces }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    const to = { targets: [{ ip: THERE, port: 80 }], maxTries: 4 };
    await run([group(to)], { outcome: () => "broken" });
    assertEquals(traces(), ["failed, 4 tries, 0 resets, from :40000"]);
  }));

for (const outcome of ["not-authenticated", "not-nominated"] as const) {
  Deno.test(`Dialing does not dial again what was ${outcome}`, () =>
    dial({}, async ({ there, run, traces }) => {
      using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
      const to = { targets: [{ ip: THERE, port: 80 }], maxTries: 4 };
      await run([group(to)], { outcome: () => outcome });
      const told = outcome === "not-nominated" ? "abandoned" : outcome;
      assertEquals(traces(), [`${told}, 1 try, 0 resets, from :40000`]);
    }));
}

Deno.test("Dialing calls a dial connected that broke and was made again", () =>
  dial({}, async ({ there, run, traces }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    let dials = 0;
    await run([group({ targets: [{ ip: THERE, port: 80 }] })], {
      outcome: () => ++dials === 3 ? "nominated" : "broken",
    });
    assertEquals(traces(), ["connected, 3 tries, 0 resets, from :40000"]);
  }));

Deno.test("Dialing tells of a spray in one line, and that it met whatever the others did", () =>
  dial({}, async ({ there, run, traces }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 1050 });
    const targets = ports(1000, 1100);
    await run([group({ targets, spacingMs: 0.5, maxTries: 1, timeoutMs: 900 })]);
    assertEquals(traces(), ["connected, 100 tries, 99 resets, from :40000"]);
  }));

Deno.test("Dialing keeps to the spacing of a spray, all in all", () =>
  dial({ fault: "silent" }, async ({ run, syns }) => {
    const targets = ports(1000, 1400);
    await run([group({ targets, spacingMs: 0.5, maxTries: 1, timeoutMs: 900 })]);
    const [first, last] = [syns()[0]!, syns().at(-1)!];
    assertEquals(syns().length, 400);
    assert(Math.abs(last - first - 399 * 0.5) < 5, `${last - first} ms`);
  }));

Deno.test("Dialing starts a group when it is due", () =>
  dial({ fault: "silent" }, async ({ run, syns }) => {
    await run([group({ startMs: 300, timeoutMs: 100 })]);
    assertEquals(syns().map(Math.round), [300]);
  }));

Deno.test("Dialing leaves out dials whose port is taken, and goes on", () =>
  dial({}, async ({ here, there, run, traces }) => {
    using _here = await here.network.listenTcp({ ip: "0.0.0.0", port: 50_000 });
    using _there = await there.network.listenTcp({ ip: THERE, port: 80 });
    const localPorts = [50_000, 50_001];
    const to = { ip: THERE, port: 80 };
    await run([group({ from: "fresh", localPorts, targets: [to], perTarget: 2 })]);
    assertEquals(traces(), [
      "failed, 1 try, 0 resets, from -",
      "connected, 1 try, 0 resets, from :50001",
    ]);
  }));

for (const fault of [undefined, "silent", "host-unreachable"] as const) {
  for (const atMs of [0, 5, 50, 310]) {
    Deno.test(`Dialing ends at once when it is aborted after ${atMs} ms, with a host that is ${fault ?? "there"}`, () =>
      dial({ fault }, async ({ run, nowMs, traces }) => {
        const abort = new AbortController();
        if (atMs === 0) abort.abort();
        else setTimeout(() => abort.abort(), atMs);
        const later = group({ startMs: 300, targets: [{ ip: THERE, port: 10 }] });
        await run([group({ maxTries: 100 }), later], { signal: abort.signal });
        assert(nowMs() <= atMs + 1, `${nowMs()} ms`);
        assert(traces().every((trace) => trace.startsWith("abandoned")), `${traces()}`);
      }));
  }
}

interface Place {
  readonly here: Host;
  readonly there: Host;
  run(
    dials: readonly CheckListEntry[],
    options?: { outcome?: () => NominationOutcome; signal?: AbortSignal },
  ): Promise<void>;
  /** One line for each. */
  traces(): string[];
  /** When SYNs were sent, from the start of the dials. */
  syns(): number[];
  /** From the start of the dials to now. */
  nowMs(): number;
}

/** Runs a test with somebody to dial, 10 ms away, and checks that no timer is left. */
async function dial(there: HostOptions, test: (place: Place) => Promise<void>): Promise<void> {
  await simulate(async ({ internet, time }) => {
    const link = { delayMs: 5 };
    const here = internet.host("here", { link });
    const host = internet.host("there", { addresses: [THERE], link, ...there });
    const connections: TcpConnection[] = [];
    const syns: number[] = [];
    internet.onPacket = ({ at, what, packet, atMs }) => {
      const isSyn = packet.protocol === "tcp" && packet.tcpFlags.syn && !packet.tcpFlags.ack;
      if (at === "here" && what === "sent" && isSyn) syns.push(atMs);
    };
    let dialing: ConnectivityChecks | undefined;
    await test({
      here,
      there: host,
      run: async (dials, { outcome = nominated, signal = NEVER } = {}) => {
        dialing = new ConnectivityChecks(plan(dials), {
          network: here.network,
          punchPort: 40_000,
          canListenBeside: false,
          listenMs: 0,
          context: { local: SIDE, remote: SIDE, method: "simultaneous-open" },
          pathKinds: new Set(),
          onConnection: async (connection) => {
            await delay(1);
            const said = outcome();
            if (said === "nominated") connections.push(connection);
            else connection.reset();
            return said;
          },
        });
        if (signal.aborted) dialing.stop();
        signal.addEventListener("abort", () => dialing!.stop());
        await dialing.run();
      },
      traces: () =>
        dialing!.attempts.map(({ outcome, tries, resets, local }) => {
          const from = local === null ? "-" : local.slice(local.indexOf(":"));
          return `${outcome}, ${tries} ${
            tries === 1 ? "try" : "tries"
          }, ${resets} resets, from ${from}`;
        }),
      syns: () => syns,
      nowMs: () => time.nowMs,
    });
    for (const connection of connections) connection.reset();
    await delay(1000); // for packets on their way
    assertEquals(time.pendingTimers, 0, "timers are left");
  });
}

function nominated(): NominationOutcome {
  return "nominated";
}

function plan(dials: readonly CheckListEntry[]): PunchPlan {
  return {
    method: "simultaneous-open",
    reachable: [],
    dials,
    listens: false,
    birthdaySyns: 0,
    successEstimate: 1,
    roundTripsEstimate: 1,
    reason: "a test",
  };
}

function group(changes: Partial<CheckListEntry>): CheckListEntry {
  return {
    from: "punch",
    targets: [{ ip: THERE, port: 9 }],
    perTarget: 1,
    startMs: 0,
    spacingMs: 0,
    maxTries: 10,
    timeoutMs: 12_000,
    ...changes,
  };
}

function ports(from: number, to: number): TransportAddress[] {
  return Array.from({ length: to - from }, (_, index) => ({ ip: THERE, port: from + index }));
}

const SIDE = punchSide("203.0.113.1");
const THERE = "203.0.113.99";
const NEVER = new AbortController().signal;
