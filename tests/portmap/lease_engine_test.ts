/** The lease engine as a table: every state with every event, then what spans several of them, then the timing rules. */

import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import {
  type LeaseAction,
  type LeaseEvent,
  type LeasePhase,
  type LeaseState,
  type LeaseStep,
  openLease,
  renewalMs,
  repairDelayMs,
  restartDelayMs,
  stepLease,
} from "../../lib/portmap/lease_engine.ts";
import type { GatewayEpoch, MappingGrant } from "../../lib/portmap/mapper.ts";

/** TCP port 8080 for an hour, granted at 0 ms when the gateway had been up for 1000 s. */
const GRANT: MappingGrant = {
  mapper: "pcp",
  protocol: "tcp",
  internal: { ip: "192.168.1.2", port: 8080 },
  external: { ip: "44.0.0.7", port: 8080 },
  lifetimeSeconds: 3600,
  grantedAtMs: 0,
  gateway: "192.168.1.1",
  handle: "",
  epoch: { seconds: 1000, receivedAtMs: 0 },
};

const TERMS = { lifetimeSeconds: 3600, checkSeconds: 60 };

/** When the events of the tables happen: nothing is due before 60 s. */
const NOW_MS = 10_000;

/** As it should be at `NOW_MS`, and after a restart. */
const SAME_EPOCH: GatewayEpoch = { seconds: 1010, receivedAtMs: NOW_MS };
const NEW_EPOCH: GatewayEpoch = { seconds: 1, receivedAtMs: NOW_MS };

const RENEWED: MappingGrant = { ...GRANT, grantedAtMs: NOW_MS, epoch: SAME_EPOCH };
const MOVED: MappingGrant = { ...RENEWED, external: { ip: "44.0.0.8", port: 8080 } };
const BY_UPNP: MappingGrant = { ...RENEWED, mapper: "upnp", epoch: undefined };

const LOST = { kind: "lost", reason: "gone", hasRestarted: false } as const;

const EVENTS: Readonly<Record<string, LeaseEvent>> = {
  "time": { kind: "time" },
  "announced, same epoch": { kind: "announced", mapper: "pcp", epoch: SAME_EPOCH },
  "announced, new epoch": { kind: "announced", mapper: "pcp", epoch: NEW_EPOCH },
  "announced by NAT-PMP": { kind: "announced", mapper: "nat-pmp", epoch: NEW_EPOCH },
  "checked, fine": { kind: "checked", finding: { kind: "fine", grant: RENEWED } },
  "checked, changed": { kind: "checked", finding: { kind: "changed", grant: MOVED } },
  "checked, remade": {
    kind: "checked",
    finding: { kind: "remade", reason: "gone", grant: RENEWED },
  },
  "checked, lost": { kind: "checked", finding: LOST },
  "checked, lost by a restart": { kind: "checked", finding: { ...LOST, hasRestarted: true } },
  "renewed": { kind: "renewed", grant: RENEWED },
  "renewed, elsewhere": { kind: "renewed", grant: MOVED },
  "renewed, new epoch": { kind: "renewed", grant: { ...RENEWED, epoch: NEW_EPOCH } },
  "won by the same protocol": { kind: "won", grant: RENEWED },
  "won by another protocol": { kind: "won", grant: BY_UPNP },
  "failed": { kind: "failed" },
  "duplicated": { kind: "duplicated", grants: [BY_UPNP] },
  "leave": { kind: "leave" },
  "release": { kind: "release" },
};

/** The next phase and the actions, in the notation of {@linkcode summaryOf}. An event that is missing does nothing. */
const TABLE: Readonly<Record<LeasePhase, Readonly<Record<string, string>>>> = {
  waiting: {
    "time": "waiting: wait until 60 s",
    "announced, same epoch": "checking: check",
    "announced, new epoch": "restoring: report lost, wait until 12.5 s",
    "announced by NAT-PMP": "checking: check",
  },
  restoring: {
    "time": "restoring: wait until 12.5 s",
    "announced, same epoch": "restoring: wait until 12.5 s",
    "announced, new epoch": "restoring: wait until 12.5 s",
    "announced by NAT-PMP": "restoring: wait until 12.5 s",
  },
  checking: {
    "checked, fine": "waiting: wait until 70 s",
    "checked, changed": "waiting: report changed, wait until 70 s",
    "checked, remade": "waiting: report lost, report mapped, wait until 70 s",
    "checked, lost": "renewing: report lost, renew",
    "checked, lost by a restart": "restoring: report lost, wait until 12.5 s",
    "failed": "renewing: renew",
  },
  renewing: {
    "renewed": "waiting: report renewed, wait until 70 s",
    "renewed, elsewhere": "waiting: report changed, wait until 70 s",
    "renewed, new epoch": "waiting: report lost, report mapped, wait until 70 s",
    "failed": "repairing: race",
  },
  repairing: {
    "won by the same protocol": "waiting: listen, report renewed, wait until 70 s",
    "won by another protocol": "waiting: listen, report changed, wait until 70 s",
    "failed": "waiting: wait until 14 s",
  },
  left: {},
  released: {
    "duplicated": "released: release 1",
    "leave": "released: ",
    "release": "released: ",
  },
};

/** What happens in the phases whose row does not say otherwise; `*` is the phase before. */
const IN_ANY_PHASE: Readonly<Record<string, string>> = {
  "duplicated": "*: ",
  "leave": "left: ",
  "release": "released: release 1",
};

for (const [phase, row] of Object.entries(TABLE)) {
  for (const [name, event] of Object.entries(EVENTS)) {
    const expected = row[name] ?? IN_ANY_PHASE[name] ?? "";
    Deno.test(`a ${phase} lease, on "${name}": ${expected.replace("*", phase) || "nothing"}`, () => {
      const before = stateIn(phase as LeasePhase);
      const { state, actions } = stepLease(before, event, { nowMs: NOW_MS, random: 0.5 });
      assertEquals(
        summaryOf({ state, actions }),
        (expected || `${phase}: `).replace("*", phase),
      );
    });
  }
}

/** A lease that came into this phase by its own steps. */
function stateIn(phase: LeasePhase): LeaseState {
  const moment = { nowMs: NOW_MS, random: 0.5 };
  const { state } = openLease(GRANT, TERMS, { nowMs: 0, random: 0.5 });
  const checking = stepLease(state, EVENTS["announced, same epoch"]!, moment).state;
  switch (phase) {
    case "waiting":
      return state;
    case "restoring":
      return stepLease(state, EVENTS["announced, new epoch"]!, moment).state;
    case "checking":
      return checking;
    case "renewing":
      return stepLease(checking, { kind: "failed" }, moment).state;
    case "repairing":
      return stepLease(stateIn("renewing"), { kind: "failed" }, moment).state;
    case "left":
      return stepLease(state, { kind: "leave" }, moment).state;
    case "released":
      return stepLease(state, { kind: "release" }, moment).state;
  }
}

function summaryOf({ state, actions }: LeaseStep): string {
  return `${state.phase}: ${actions.map(actionText).join(", ")}`;
}

function actionText(action: LeaseAction): string {
  switch (action.kind) {
    case "wait":
      return `wait until ${action.untilMs / 1000} s`;
    case "report":
      return `report ${action.news.event}`;
    case "release":
      return `release ${action.grants.length}`;
    default:
      return action.kind;
  }
}

Deno.test("openLease() listens to the gateway, and waits for the first check", () => {
  const step = openLease(GRANT, TERMS, { nowMs: 0, random: 0 });
  assertEquals(summaryOf(step), "waiting: listen, wait until 60 s");
  assertEquals(step.state.isLost, false);
});

Deno.test("a lease that is never checked waits for its renewal", () => {
  const terms = { ...TERMS, checkSeconds: Infinity };
  const opened = openLease(GRANT, terms, { nowMs: 0, random: 0 });
  assertEquals(summaryOf(opened), "waiting: listen, wait until 1800 s");
  const due = stepLease(opened.state, { kind: "time" }, { nowMs: 1_800_000, random: 0 });
  assertEquals(summaryOf(due), "renewing: renew");
});

Deno.test("a check is due when its time has come", () => {
  const step = stepLease(stateIn("waiting"), { kind: "time" }, { nowMs: 60_000, random: 0 });
  assertEquals(summaryOf(step), "checking: check");
});

Deno.test("a lease is renewed when the delay after a restart is over", () => {
  const step = stepLease(stateIn("restoring"), { kind: "time" }, { nowMs: 12_500, random: 0 });
  assertEquals(summaryOf(step), "renewing: renew");
  assertEquals(step.state.isLost, true);
});

Deno.test("a renewal comes before a check that is due at the same time", () => {
  const step = stepLease(stateIn("waiting"), { kind: "time" }, { nowMs: 2_400_000, random: 0 });
  assertEquals(summaryOf(step), "renewing: renew");
});

Deno.test("a lease that expires is lost, and repaired at once", () => {
  const step = stepLease(stateIn("waiting"), { kind: "time" }, { nowMs: 3_600_000, random: 0 });
  assertEquals(summaryOf(step), "repairing: report lost, race");
  assertEquals(newsOf(step), [{ event: "lost", reason: "the lease has expired" }]);
});

Deno.test("a lost mapping is reported as lost once, and as mapped when a race is won", () => {
  let { state } = stepLease(stateIn("checking"), EVENTS["checked, lost"]!, at(NOW_MS));
  assertEquals(state.isLost, true);
  state = stepLease(state, { kind: "failed" }, at(NOW_MS)).state;
  const failed = stepLease(state, { kind: "failed" }, at(NOW_MS));
  assertEquals(summaryOf(failed), "waiting: wait until 14 s");
  const again = stepLease(failed.state, { kind: "time" }, at(14_000));
  assertEquals(summaryOf(again), "repairing: race");
  const won = stepLease(again.state, { kind: "won", grant: RENEWED }, at(14_000));
  assertEquals(newsOf(won), [{ event: "mapped", reason: "mapped again" }]);
  assertEquals([won.state.isLost, won.state.failures], [false, 0]);
});

Deno.test("a mapping that is lost when a restart is announced is restored without another report", () => {
  const lost = { ...stateIn("waiting"), isLost: true, repairAtMs: 20_000 };
  const step = stepLease(lost, EVENTS["announced, same epoch"]!, at(NOW_MS));
  assertEquals(summaryOf(step), "restoring: wait until 12.5 s");
});

Deno.test("failed repairs back off, and renewals are tried in between while the lease lasts", () => {
  let state = stateIn("repairing");
  const waits: number[] = [];
  for (let nowMs = NOW_MS, round = 0; round < 8; round++) {
    const failed = stepLease(state, { kind: "failed" }, at(nowMs));
    const wait = failed.actions.at(-1)!;
    assert(wait.kind === "wait");
    waits.push((wait.untilMs - nowMs) / 1000);
    nowMs = wait.untilMs;
    const next = stepLease(failed.state, { kind: "time" }, at(nowMs));
    assertEquals(summaryOf(next), "repairing: race");
    state = next.state;
  }
  assertEquals(waits, [4, 8, 16, 32, 64, 128, 256, 300]);
});

Deno.test("a renewal that is due before the next repair is tried first", () => {
  const late = { ...stateIn("repairing"), failures: 6 };
  const { state } = stepLease(late, { kind: "failed" }, { nowMs: 3_560_000, random: 0 });
  assertEquals([state.failures, state.repairAtMs, state.renewAtMs], [7, 3_816_000, 3_585_937.5]);
  const step = stepLease(state, { kind: "time" }, at(3_585_937.5));
  assertEquals(summaryOf(step), "renewing: renew");
});

Deno.test("announcements within 4 s of the last question are ignored, because they may be forged", () => {
  const checked = stepLease(stateIn("checking"), EVENTS["checked, fine"]!, at(NOW_MS)).state;
  const early = stepLease(checked, EVENTS["announced, new epoch"]!, at(NOW_MS + 3999));
  assertEquals(summaryOf(early), "waiting: wait until 70 s");
  const later = stepLease(checked, EVENTS["announced, new epoch"]!, at(NOW_MS + 4000));
  assertEquals(later.state.phase, "restoring");
});

Deno.test("the grant of another protocol is released in the end, after the latest grant", () => {
  const { state } = stepLease(stateIn("repairing"), EVENTS["won by another protocol"]!, at(NOW_MS));
  assertEquals([state.grant, state.duplicates], [BY_UPNP, [GRANT]]);
  const duplicated = stepLease(state, { kind: "duplicated", grants: [MOVED] }, at(NOW_MS)).state;
  const { actions } = stepLease(duplicated, { kind: "release" }, at(NOW_MS));
  assertEquals(actions, [{ kind: "release", grants: [BY_UPNP, GRANT, MOVED] }]);
});

Deno.test("a grant by the same protocol of the same gateway replaces the one before", () => {
  const won = EVENTS["won by the same protocol"]!;
  const { state } = stepLease(stateIn("repairing"), won, at(NOW_MS));
  assertEquals([state.grant, state.duplicates], [RENEWED, []]);
});

Deno.test("a lease that was left still releases its grants when it is asked to", () => {
  const { actions } = stepLease(stateIn("left"), { kind: "release" }, at(NOW_MS));
  assertEquals(actions, [{ kind: "release", grants: [GRANT] }]);
});

Deno.test("an external address that the gateway does not report is not a change", () => {
  const untold = { ...RENEWED, external: { ip: "0.0.0.0", port: 8080 } };
  const step = stepLease(stateIn("renewing"), { kind: "renewed", grant: untold }, at(NOW_MS));
  assertEquals(newsOf(step), [{ event: "renewed" }]);
});

Deno.test("a change says what it was before", () => {
  const reasons = [MOVED, { ...RENEWED, external: { ip: "44.0.0.7", port: 8081 } }, BY_UPNP]
    .map((grant) => stepLease(stateIn("repairing"), { kind: "won", grant }, at(NOW_MS)))
    .map((step) => newsOf(step)[0]?.reason);
  assertEquals(reasons, [
    "the external address was 44.0.0.7",
    "the external port was 8080",
    "pcp at 192.168.1.1 no longer works",
  ]);
});

Deno.test("a lease that never expires is checked, and never renewed", () => {
  const forever = { ...GRANT, lifetimeSeconds: Infinity };
  const step = openLease(forever, { ...TERMS, checkSeconds: Infinity }, at(0));
  assertEquals(summaryOf(step), "waiting: listen, wait until Infinity s");
});

Deno.test("every step but the last ones ends with one action that leads to the next event", () => {
  const names = fc.constantFrom(...Object.keys(EVENTS));
  fc.assert(fc.property(fc.array(fc.tuple(names, fc.nat(4_000_000))), (happenings) => {
    let { state } = openLease(GRANT, TERMS, at(0));
    let nowMs = 0;
    for (const [name, laterMs] of happenings) {
      nowMs += laterMs;
      const step = stepLease(state, EVENTS[name]!, at(nowMs));
      const leading = step.actions.filter(({ kind }) => LEADING.includes(kind));
      assert(leading.length <= 1);
      assertEquals(leading[0], leading.length === 0 ? undefined : step.actions.at(-1));
      state = step.state;
    }
  }));
});

const LEADING = ["wait", "check", "renew", "race"];

function at(nowMs: number) {
  return { nowMs, random: 0.5 };
}

function newsOf({ actions }: LeaseStep) {
  return actions.flatMap((action) => action.kind === "report" ? [action.news] : []);
}

const HOUR = { lifetimeSeconds: 3600, grantedAtMs: 1000 };

Deno.test("renewalMs() is between 1/2 and 5/8, then 3/4 and 13/16, and so on, as in RFC 6887 §11.2.1", () => {
  const shares = [0, 1, 2].map((attempt) =>
    [0, 1].map((random) => (renewalMs(HOUR, attempt, random) - 1000) / 3_600_000)
  );
  assertEquals(shares, [[1 / 2, 5 / 8], [3 / 4, 13 / 16], [7 / 8, 29 / 32]]);
});

Deno.test("renewalMs() tries at most every 4 s, and never after the lease has expired", () => {
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 0xffff_ffff }),
    fc.integer({ min: 0, max: 40 }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    (lifetimeSeconds, attempt, random) => {
      const lease = { lifetimeSeconds, grantedAtMs: 0 };
      const atMs = renewalMs(lease, attempt, random);
      assert(atMs === Infinity || atMs < lifetimeSeconds * 1000);
      if (attempt === 0 || atMs === Infinity) return;
      assert(lifetimeSeconds * 2 ** -(attempt + 1) >= 4);
    },
  ));
});

Deno.test("renewalMs() does not renew a lease that never expires", () => {
  assertEquals(renewalMs({ lifetimeSeconds: Infinity, grantedAtMs: 0 }, 0, 0), Infinity);
});

Deno.test("repairDelayMs() doubles from 4 s to 5 min", () => {
  assertEquals([1, 2, 3, 7, 8, 100].map(repairDelayMs), [
    ...[4000, 8000, 16_000, 256_000, 300_000, 300_000],
  ]);
});

Deno.test("restartDelayMs() is 0 to 5 s, as in RFC 6887 §8.5", () => {
  assertEquals([restartDelayMs(0), restartDelayMs(1)], [0, 5000]);
});

Deno.test("a grant on another external port replaces the one before, which UPnP would leave open", () => {
  const before = { ...stateIn("renewing"), grant: { ...BY_UPNP, grantedAtMs: 0 } };
  const wandered: MappingGrant = { ...BY_UPNP, external: { ip: "44.0.0.7", port: 9000 } };
  const step = stepLease(before, { kind: "renewed", grant: wandered }, at(NOW_MS));
  assertEquals(summaryOf(step), "waiting: report changed, drop, wait until 70 s");
  const [dropped] = step.actions.filter(({ kind }) => kind === "drop");
  assert(dropped?.kind === "drop");
  assertEquals(dropped.grant.external.port, 8080);
  // By PCP the new port has replaced the old one already.
  const byPcp = { ...RENEWED, external: { ip: "44.0.0.7", port: 9000 } };
  const replaced = stepLease(stateIn("renewing"), { kind: "renewed", grant: byPcp }, at(NOW_MS));
  assertEquals(summaryOf(replaced), "waiting: report changed, wait until 70 s");
});

for (const phase of ["checking", "renewing", "repairing"] as const) {
  Deno.test(`a ${phase} lease that expires is reported as lost at once, and asks on`, () => {
    const early = stepLease(stateIn(phase), { kind: "expired" }, at(3_599_999));
    assertEquals(summaryOf(early), `${phase}: `);
    const step = stepLease(stateIn(phase), { kind: "expired" }, at(3_600_000));
    assertEquals(summaryOf(step), `${phase}: report lost`);
    assertEquals(newsOf(step), [{ event: "lost", reason: "the lease has expired" }]);
    const again = stepLease(step.state, { kind: "expired" }, at(3_600_001));
    assertEquals(summaryOf(again), `${phase}: `);
  });
}
