// Routers and neighbours that attack, as real programs in a namespace, and what the command line does about them: it
// says what is wrong, sends nothing to anyone but the gateway, ends in time, and holds no more memory than without them.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { labTest } from "../../lab/lab_test_case.ts";
import { stepsAtOnce } from "../../lab/steps_at_once.ts";
import { reportFigures } from "./figures.ts";
import { HostileWorld, type Outcome, WORLD, WORLD_PROGRAMS } from "./place.ts";

const NEEDS = { programs: WORLD_PROGRAMS };

interface Expected {
  /** The exit code; 130 if a mapping was held until Ctrl-C. */
  readonly code: number;
  /** What stdout and stderr say, with the routing table and without. */
  readonly says: RegExp;
  /** How many packets may go to the gateway. */
  readonly packets?: number;
}

const REFUSED = 1;
const HELD = 130;
const SILENT = /UPnP silent/;

/** What `map add` makes of each attack. */
const ATTACKS: Readonly<Record<string, Expected>> = {
  "neighbour names services of another neighbour": { code: REFUSED, says: SILENT },
  "gateway names services of a neighbour": {
    code: REFUSED,
    says: /UPnP garbled/,
  },
  "gateway names a third party": { code: REFUSED, says: /UPnP (?:garbled|unreachable)/ },
  "flood of answers": { code: REFUSED, says: /UPnP garbled/ },
  "endless head": { code: REFUSED, says: /a head has more than 16384 bytes/ },
  "endless body": { code: REFUSED, says: /the body has more than 262144 bytes/ },
  "endless interim responses": { code: REFUSED, says: /UPnP garbled/ },
  "endless tiny chunks": { code: REFUSED, says: /the body has more than 262144 bytes/ },
  "endless trailer": { code: REFUSED, says: /UPnP garbled/ },
  "one byte a second": { code: REFUSED, says: /no HTTP response in 20000 ms/ },
  "entity bomb": { code: REFUSED, says: /it has a DOCTYPE/ },
  "deep description": { code: REFUSED, says: /more than 64 levels deep/ },
  "description full of attributes": { code: REFUSED, says: /no device element/ },
  "thousands of services": { code: REFUSED, says: /UPnP refused/, packets: 250 },
  "control URLs of others": { code: REFUSED, says: /UPnP unreachable/ },
  "redirects to others": { code: REFUSED, says: /UPnP garbled/ },
  "terminal escapes": { code: REFUSED, says: /Action Failed/ },
  "terminal escapes in a service without ports": {
    code: REFUSED,
    says: /none of its services opens ports/,
  },
  "conflict for every port": { code: REFUSED, says: /ConflictInMappingEntry/ },
  "flood of strange answers": { code: REFUSED, says: /refused/ },
  "lifetime of one second": { code: HELD, says: /Released/ },
  "lifetime of zero": { code: REFUSED, says: /granted it for 0 s/ },
  "lifetime without end": { code: HELD, says: /Released/ },
  "external address of a neighbour": { code: HELD, says: /double-nat/ },
  "external address is loopback": { code: HELD, says: /unverified/ },
  "epoch that jumps": { code: HELD, says: /Released/ },
  "announcements without end": { code: HELD, says: /Released/ },
};

/** What differs where the routing table cannot be read. */
const WITHOUT_ROUTES: readonly string[] = [
  "gateway names services of a neighbour",
  "gateway names a third party",
  "flood of answers",
  "endless body",
  "terminal escapes",
  "announcements without end",
];

for (const permissions of ["-A", "--allow-net"]) {
  labTest(
    `a hostile router or neighbour gets nothing out of map add with ${permissions}`,
    async (context) => {
      const quiet = await mapAdd("silent", permissions, REFUSED);
      const attacks = Object.entries(ATTACKS)
        .filter(([attack]) => permissions === "-A" || WITHOUT_ROUTES.includes(attack));
      await stepsAtOnce(
        context,
        attacks.map(([attack, { code, says, packets = 60 }]) => [attack, async () => {
          const outcome = await mapAdd(attack, permissions, code);
          const said = outcome.stdout + outcome.stderr;
          assertEquals(outcome.code, code, said);
          assertMatch(said, says);
          assertOnlyGateway(outcome, packets, permissions === "-A" ? [] : [WORLD.attacker]);
          assertVisible(said);
          assert(outcome.elapsedMs < 32_000, `${outcome.elapsedMs} ms`);
          assertBounded(outcome, quiet);
          reportFigures(`map add ${permissions}: ${attack}`, outcome);
        }]),
      );
    },
    NEEDS,
  );
}

labTest("a neighbour cannot pass for the gateway, where the gateway is known", async () => {
  const outcome = await mapAdd("neighbour claims to be a gateway", "-A", REFUSED);
  assertEquals(outcome.code, REFUSED);
  assertMatch(outcome.stderr, SILENT);
  assertOnlyGateway(outcome, 60);
}, NEEDS);

labTest("a neighbour can name only itself, where the gateway is not known", async () => {
  const outcome = await mapAdd("neighbour claims to be a gateway", "--allow-net", HELD);
  const dialled = [...outcome.sent.keys()].filter((to) => to.startsWith("tcp "));
  assertEquals(dialled, [`tcp ${WORLD.attacker}:5000`]);
}, NEEDS);

for (const attack of ["mapping table without end", "terminal escapes", "endless body"]) {
  labTest(`map list with a router's ${attack} ends in time and memory`, async () => {
    await using world = await HostileWorld.open();
    await world.attack("hostile_gateway.ts", [attack]);
    const outcome = await world.run(["map", "list"]);
    assertOnlyGateway(outcome, 5000);
    assertVisible(outcome.stdout + outcome.stderr);
    assert(outcome.elapsedMs < 20_000, `${outcome.elapsedMs} ms`);
    assert(outcome.peakRssBytes < 300e6, `${outcome.peakRssBytes} bytes`);
    reportFigures(`map list: ${attack}`, outcome);
  }, NEEDS);
}

/** Opens a port, and presses Ctrl-C after a while if it is open. */
async function mapAdd(attack: string, permissions: string, code: number): Promise<Outcome> {
  await using world = await HostileWorld.open();
  await world.attack("hostile_gateway.ts", [attack]);
  const interruptAfterMs = code === HELD ? 8000 : 40_000;
  return await world.run(["map", "add", "tcp", "8080"], {
    permissions,
    interruptAfterMs,
    stuckAfterMs: 60_000,
  });
}

/**
 * Multicast searches, and one datagram to learn the own address, are no dialling.
 *
 * @param named devices that may be asked because they answered, and named themselves
 */
function assertOnlyGateway({ sent }: Outcome, most: number, named: readonly string[] = []): void {
  const strangers = [...sent.keys()].filter((to) =>
    !named.some((ip) => to.startsWith(`tcp ${ip}:`)) &&
    !/^(?:tcp|udp) 192\.168\.1\.1:|^udp (?:239\.255\.255\.250:1900|224\.0\.0\.1:|192\.0\.0\.9:5351)/
      .test(to)
  );
  assertEquals(strangers, []);
  const count = [...sent.values()].reduce((sum, each) => sum + each, 0);
  assert(count <= most, `${count} packets: ${JSON.stringify([...sent])}`);
}

function assertVisible(said: string): void {
  // deno-lint-ignore no-control-regex
  assert(!/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/.test(said), JSON.stringify(said));
}

/** Ours: a flood may fill the buffers of sockets and the young generation of the heap, and nothing that stays. */
function assertBounded({ peakRssBytes }: Outcome, quiet: Outcome): void {
  const more = peakRssBytes - quiet.peakRssBytes;
  assert(more < 200e6, `${more} bytes more than without the attack`);
}
