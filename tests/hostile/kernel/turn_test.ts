// A TURN server that attacks, as a real program in a namespace, and what connect --turn does about it. Both peers are
// honest, and so is the rendezvous between them.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { labTest } from "../../lab/lab_test_case.ts";
import { reportFigures } from "./figures.ts";
import { HostileWorld, WORLD, WORLD_PROGRAMS } from "./place.ts";

const NEEDS = { programs: WORLD_PROGRAMS };

/** What stderr says about each attack; never more than that there is no connection. */
const ATTACKS: Readonly<Record<string, RegExp>> = {
  "challenge without end": /answered (401|438)/,
  "realm of many kilobytes": /relay/,
  "sends to itself": /it was asked before/,
  "sends to a neighbour": /it is a private address/,
  "sends to loopback": /it is a loopback address/,
  "sends to system ports of a third party": /one of another service/,
  "relayed address is a neighbour": /relay/,
  "relayed address is loopback": /a loopback address/,
  "relayed address is a third party": /Cannot connect/,
  "lifetime of one second": /Cannot connect/,
  "lifetime without end": /Cannot connect/,
  "grants and then forgets": /Cannot connect/,
  "grants and then falls silent": /Cannot connect/,
  "refuses everything": /answered 403/,
  "terminal escapes": /answered 486/,
  "flood of data": /Cannot connect/,
  "flood of connection attempts": /Cannot connect/,
  "flood of answers": /Cannot connect/,
};

labTest("a hostile TURN server gets nothing out of connect", async (context) => {
  for (const [attack, says] of Object.entries(ATTACKS)) {
    await context.step(attack, async () => {
      await using world = await HostileWorld.open();
      await world.serve();
      const { ticket } = await world.listen();
      await world.attack("hostile_turn.ts", [attack]);
      const outcome = await world.run([
        ...["connect", ticket, "--server", WORLD.honest, "--strategy", "relay"],
        ...["--turn", `turn:someone:secret@${WORLD.server}:3478?transport=tcp`],
        ...["--timeout", "4s"],
      ], { stuckAfterMs: 20_000 });
      const said = outcome.stdout + outcome.stderr;
      assertEquals(outcome.code, 1, said);
      assertMatch(said, says);
      // deno-lint-ignore no-control-regex
      assert(!/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]/.test(said), JSON.stringify(said));
      assert(!said.includes("secret"), said);
      const strangers = [...outcome.sent.keys()].filter((to) =>
        !to.includes(` ${WORLD.server}:3478`) && !to.includes(` ${WORLD.honest}:`)
      );
      assertEquals(strangers, []);
      const packets = [...outcome.sent.values()].reduce((sum, each) => sum + each, 0);
      assert(packets < 100, `${packets} packets`);
      assert(outcome.elapsedMs < 9000, `${outcome.elapsedMs} ms`);
      assert(outcome.peakRssBytes < 250e6, `${outcome.peakRssBytes} bytes`);
      reportFigures(`connect --turn: ${attack}`, outcome);
    });
  }
}, NEEDS);
