// A STUN server that attacks, as a real program in a namespace, and what nat-test and stun do about it: an error that
// says what is wrong, or a verdict that claims nothing; no packet to any place that the server has no business to name.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { labTest } from "../../lab/lab_test_case.ts";
import { reportFigures } from "./figures.ts";
import { HostileWorld, type Outcome, WORLD, WORLD_PROGRAMS } from "./place.ts";

const NEEDS = { programs: WORLD_PROGRAMS };

interface Expected {
  readonly code: number;
  readonly says: RegExp;
  /** Packets to the alternate address that a server reports: the test of RFC 5780 takes some. */
  readonly toVictim?: number;
}

const NAT_TEST: Readonly<Record<string, Expected>> = {
  "flood of answers": { code: 0, says: /seen as/, toVictim: 12 },
  "answers of 64 KB": { code: 1, says: /answers, but not with STUN/ },
  "thousands of attributes": { code: 1, says: /answers, but not with STUN/ },
  "length that lies": { code: 1, says: /answers, but not with STUN/ },
  "junk": { code: 1, says: /answers, but not with STUN/ },
  "sends round and round": { code: 1, says: /answers with error 300/ },
  "sends to a neighbour": { code: 1, says: /answers with error 300/ },
  "sends to loopback": { code: 1, says: /answers with error 300/ },
  "other address is a neighbour": { code: 0, says: /seen as/ },
  "other address is a third party": { code: 0, says: /seen as/ },
  "another third party each time": { code: 0, says: /seen as/ },
  "mapped address is a neighbour": { code: 0, says: /NAT of unknown kind/ },
  "mapped address is the gateway": { code: 0, says: /NAT of unknown kind/ },
  "mapped address is a third party": { code: 0, says: /NAT of unknown kind/ },
  "mapped address is a third party and all of its ports": {
    code: 0,
    says: /NAT of unknown kind/,
  },
  "mapped address is loopback": { code: 3, says: /do not answer as they should/ },
  "terminal escapes": { code: 1, says: /answers with error 420/ },
  "reason of many kilobytes": { code: 1, says: /answers, but not with STUN/ },
  "challenge without end": { code: 1, says: /answers with error 401/ },
};

labTest("a hostile STUN server gets nothing out of nat-test", async (context) => {
  for (const [attack, expected] of Object.entries(NAT_TEST)) {
    await context.step(attack, async () => {
      const outcome = await ask(attack, ["nat-test", "--server", WORLD.server]);
      assertOutcome(outcome, expected);
      reportFigures(`nat-test: ${attack}`, outcome);
    });
  }
}, NEEDS);

const STUN: Readonly<Record<string, readonly [RegExp, RegExp]>> = {
  "flood of answers": [/sees this machine/, /Cannot read STUN stream/],
  "length that lies": [/no answer/, /Cannot read STUN stream/],
  "sends to itself": [/it was asked before/, /it was asked before/],
  "sends to a neighbour": [/it is a private address/, /it is a private address/],
  "sends to loopback": [/it is a loopback address/, /it is a loopback address/],
  "terminal escapes": [/answered 420/, /answered 420/],
  "reason of many kilobytes": [/no answer/, /Cannot read STUN stream/],
  "challenge without end": [/answered 401/, /answered 401/],
};

labTest("a hostile STUN server gets nothing out of stun, over UDP or TCP", async (context) => {
  for (const [attack, messages] of Object.entries(STUN)) {
    for (const [index, option] of ["--json", "--tcp"].entries()) {
      await context.step(`${attack} ${option}`, async () => {
        const outcome = await ask(attack, ["stun", WORLD.server, option]);
        assertMatch(outcome.stdout + outcome.stderr, index === 0 ? /./ : messages[index]!);
        if (outcome.code !== 0) assertMatch(outcome.stderr, messages[index]!);
        assertOutcome(outcome, { code: outcome.code, says: /./ });
        reportFigures(`stun ${option}: ${attack}`, outcome);
      });
    }
  }
}, NEEDS);

async function ask(attack: string, args: readonly string[]): Promise<Outcome> {
  await using world = await HostileWorld.open();
  await world.attack("hostile_stun.ts", [attack]);
  return await world.run(args, { stuckAfterMs: 30_000 });
}

function assertOutcome(outcome: Outcome, { code, says, toVictim = 0 }: Expected): void {
  const said = outcome.stdout + outcome.stderr;
  assertEquals(outcome.code, code, said);
  assertMatch(said, says);
  // deno-lint-ignore no-control-regex
  assert(!/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/.test(said), JSON.stringify(said));
  const victims = [...outcome.sent].filter(([to]) =>
    !to.includes(` ${WORLD.server}:`) && !NO_HOST.test(to)
  );
  for (const [to] of victims) {
    assertMatch(to, new RegExp(`^(udp|tcp) ${WORLD.victim.replaceAll(".", "\\.")}:\\d{4,5}$`));
  }
  const count = victims.reduce((sum, [, each]) => sum + each, 0);
  assert(count <= toVictim + HAIRPIN_PACKETS, JSON.stringify(victims));
  assert(outcome.elapsedMs < 12_000, `${outcome.elapsedMs} ms`);
  assert(outcome.peakRssBytes < 200e6, `${outcome.peakRssBytes} bytes`);
}

/** Where nothing comes back, one byte to a documentation address shows whether the system sends at all. */
const NO_HOST = /^udp (?:192\.0\.2\.1|\[?2001:db8::1\]?):9$/;

/** To the external addresses of two sockets, which no one but the server can check. */
const HAIRPIN_PACKETS = 8;
