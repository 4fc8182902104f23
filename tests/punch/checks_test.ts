import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import { DialBudget } from "../../lib/punch/limits.ts";
import { ConnectivityChecks } from "../../lib/punch/checks.ts";
import { DIRECT_PATH_KINDS } from "../../lib/punch/path_kinds.ts";
import type { NominationOutcome } from "../../lib/punch/nomination.ts";
import type { CheckListEntry, PunchPlan } from "../../lib/punch/plan_types.ts";
import type { Host, HostOptions } from "../simnet/host.ts";
import { punchSide } from "./fixtures.ts";
import { simulate } from "../simnet/simulate.ts";

Deno.test("ConnectivityChecks hands over a connection and records its local address", () =>
  dial({}, async ({ there, run, records }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    await run([group({ targets: [{ ip: THERE, port: 80 }] })]);
    assertEquals(records(), ["connected, 1 try, 0 resets, from :40000"]);
  }));

Deno.test("ConnectivityChecks redials at once after a reset, as often as the plan says", () =>
  dial({}, async ({ run, records, nowMs }) => {
    await run([group({ maxTries: 50 })]);
    assertEquals(records(), ["refused, 50 tries, 50 resets, from -"]);
    const perTryMs = nowMs() / 50;
    assert(perTryMs >= 20 && perTryMs < 24, `${perTryMs} ms`); // a round trip of 20, and the jitter
  }));

Deno.test("ConnectivityChecks redials a hundred times at once, and then slowly", () =>
  dial({}, async ({ run, records, nowMs }) => {
    await run([group({ maxTries: 110 })]);
    assertEquals(records(), ["refused, 110 tries, 110 resets, from -"]);
    assert(nowMs() > 99 * 20 + 11 * 70 - 20, `${nowMs()} ms`);
  }));

Deno.test("ConnectivityChecks ends on time while it is being reset", () =>
  dial({}, async ({ run, records, nowMs }) => {
    await run([group({ maxTries: 10_000, timeoutMs: 500 })]);
    assert(nowMs() <= 501, `${nowMs()} ms`);
    assert(/^(timed-out|refused), 2\d tries, 2\d resets/.test(records()[0]!), records()[0]);
  }));

Deno.test("ConnectivityChecks redials after an ICMP error", () =>
  dial({ fault: "host-unreachable" }, async ({ run, records }) => {
    await run([group({ maxTries: 3 })]);
    assertEquals(records(), ["unreachable, 3 tries, 0 resets, from -"]);
  }));

Deno.test("ConnectivityChecks leaves a socket alone while it waits for an answer", () =>
  dial({ fault: "silent" }, async ({ run, records, nowMs }) => {
    await run([group({ maxTries: 100, timeoutMs: 5000 })]);
    assertEquals(records(), ["timed-out, 1 try, 0 resets, from -"]);
    assertEquals(Math.round(nowMs()), 5000);
  }));

Deno.test("ConnectivityChecks redials a connection that breaks, as often as the plan says", () =>
  dial({}, async ({ there, run, records }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    const to = { targets: [{ ip: THERE, port: 80 }], maxTries: 4 };
    await run([group(to)], { outcome: () => "broken" });
    assertEquals(records(), ["failed, 4 tries, 0 resets, from :40000"]);
  }));

for (const outcome of ["not-authenticated", "not-nominated"] as const) {
  Deno.test(`ConnectivityChecks does not redial a connection that was ${outcome}`, () =>
    dial({}, async ({ there, run, records }) => {
      using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
      const to = { targets: [{ ip: THERE, port: 80 }], maxTries: 4 };
      await run([group(to)], { outcome: () => outcome });
      const told = outcome === "not-nominated" ? "abandoned" : outcome;
      assertEquals(records(), [`${told}, 1 try, 0 resets, from :40000`]);
    }));
}

Deno.test("ConnectivityChecks records a connection as connected if it broke and was made again", () =>
  dial({}, async ({ there, run, records }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 80 });
    let dials = 0;
    await run([group({ targets: [{ ip: THERE, port: 80 }] })], {
      outcome: () => ++dials === 3 ? "nominated" : "broken",
    });
    assertEquals(records(), ["connected, 3 tries, 0 resets, from :40000"]);
  }));

Deno.test("ConnectivityChecks records many dials as one attempt, connected if one of them was", () =>
  dial({}, async ({ there, run, records }) => {
    using _listener = await there.network.listenTcp({ ip: THERE, port: 1050 });
    const targets = ports(1000, 1100);
    await run([group({ targets, spacingMs: 0.5, maxTries: 1, timeoutMs: 900 })]);
    assertEquals(records(), ["connected, 100 tries, 99 resets, from :40000"]);
  }));

Deno.test("ConnectivityChecks keeps the spacing of many dials on average", () =>
  dial({ fault: "silent" }, async ({ run, syns }) => {
    const targets = ports(1000, 1400);
    await run([group({ targets, spacingMs: 0.5, maxTries: 1, timeoutMs: 900 })]);
    const [first, last] = [syns()[0]!, syns().at(-1)!];
    assertEquals(syns().length, 400);
    assert(Math.abs(last - first - 399 * 0.5) < 5, `${last - first} ms`);
  }));

Deno.test("ConnectivityChecks starts an entry when it is due", () =>
  dial({ fault: "silent" }, async ({ run, syns }) => {
    await run([group({ startMs: 300, timeoutMs: 100 })]);
    assertEquals(syns().map(Math.round), [300]);
  }));

Deno.test("ConnectivityChecks goes on after a dial whose local port is taken", () =>
  dial({}, async ({ here, there, run, records }) => {
    using _here = await here.network.listenTcp({ ip: "0.0.0.0", port: 50_000 });
    using _there = await there.network.listenTcp({ ip: THERE, port: 80 });
    const localPorts = [50_000, 50_001];
    const to = { ip: THERE, port: 80 };
    await run([group({ from: "fresh", localPorts, targets: [to], perTarget: 2 })]);
    assertEquals(records(), [
      "failed, 1 try, 0 resets, from -",
      "connected, 1 try, 0 resets, from :50001",
    ]);
  }));

Deno.test("ConnectivityChecks abandons a dial that the peer's own one came before, from the same address", () =>
  dial({}, async ({ here, there, run, records }) => {
    const local = { ip: THERE, port: 80 };
    const [ip] = here.addresses;
    const dialling = there.network.connectTcp({ ip: ip!, port: 40_000 }, { local });
    await run([group({ targets: [local], startMs: 15, timeoutMs: 100 })], { listens: true });
    assertEquals(records(), [
      "abandoned, 1 try, 0 resets, from -",
      "connected, 0 tries, 0 resets, from :40000",
    ]);
    (await dialling).reset();
  }));

for (const fault of [undefined, "silent", "host-unreachable"] as const) {
  for (const atMs of [0, 5, 50, 310]) {
    Deno.test(`ConnectivityChecks ends at once when it is stopped after ${atMs} ms, with a host that is ${fault ?? "reachable"}`, () =>
      dial({ fault }, async ({ run, nowMs, records }) => {
        const abort = new AbortController();
        if (atMs === 0) abort.abort();
        else setTimeout(() => abort.abort(), atMs);
        const later = group({ startMs: 300, targets: [{ ip: THERE, port: 10 }] });
        await run([group({ maxTries: 100 }), later], { signal: abort.signal });
        assert(nowMs() <= atMs + 1, `${nowMs()} ms`);
        assert(records().every((record) => record.startsWith("abandoned")), `${records()}`);
      }));
  }
}

interface PeerScene {
  readonly here: Host;
  readonly there: Host;
  run(
    dials: readonly CheckListEntry[],
    options?: { outcome?: () => NominationOutcome; signal?: AbortSignal; listens?: boolean },
  ): Promise<void>;
  /** A line for each attempt. */
  records(): string[];
  /** When SYNs were sent, in milliseconds from the start. */
  syns(): number[];
  /** The time since the start. */
  nowMs(): number;
}

/** Runs a test with a host to dial, one-way delay 10 ms, and checks that no timer is left. */
async function dial(there: HostOptions, test: (place: PeerScene) => Promise<void>): Promise<void> {
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
    let checks: ConnectivityChecks | undefined;
    await test({
      here,
      there: host,
      run: async (dials, { outcome = nominated, signal = NEVER, listens = false } = {}) => {
        checks = new ConnectivityChecks({ ...plan(dials), listens }, {
          network: here.network,
          punchPort: 40_000,
          canListenBeside: listens,
          listenMs: 0,
          context: { local: SIDE, remote: SIDE, method: "simultaneous-open" },
          budget: new EndlessBudget(),
          pathKinds: new Set(DIRECT_PATH_KINDS),
          hasRoom: () => Promise.resolve(true),
          onExhausted: () => {},
          onConnection: async (connection) => {
            await delay(1);
            const said = outcome();
            if (said === "nominated") connections.push(connection);
            else connection.reset();
            return said;
          },
        });
        if (signal.aborted) checks.stop();
        signal.addEventListener("abort", () => checks!.stop());
        await checks.run();
      },
      records: () =>
        checks!.attempts.map(({ outcome, tries, resets, local }) => {
          const from = local === null ? "-" : local.slice(local.indexOf(":"));
          return `${outcome}, ${tries} ${
            tries === 1 ? "try" : "tries"
          }, ${resets} resets, from ${from}`;
        }),
      syns: () => syns,
      nowMs: () => time.nowMs,
    });
    for (const connection of connections) connection.reset();
    await delay(1000); // for packets in flight
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

/** For checks that are about something else. */
class EndlessBudget extends DialBudget {
  override take(): boolean {
    return true;
  }
}
