// Signaling in a LAN of two hosts with separate kernels and two links between them:
//
//   a ── eth0 10.0.0.1, 10.0.0.11 ─────── 10.0.0.2, 10.0.0.12 eth0 ── b
//     ── eth1 10.0.1.1 ──────────────────────────── 10.0.1.2 eth1 ──

import { assert, assertEquals } from "@std/assert";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import type { LanAnswers } from "./lan_scenario.ts";
import { NetworkPlace, wire } from "./network_place.ts";

const SCENARIO = new URL("./lan_scenario.ts", import.meta.url).href;

for (const mtu of [1500, 1280]) {
  labTest(`the longest message arrives once over two links with an MTU of ${mtu}`, async () => {
    await using lan = await Lan.open({ mtu });
    await lan.answer();
    const { answers, asked } = await lan.ask();
    assertEquals({ answers, asked }, { answers: 1, asked: 1 });
  });
}

labTest("two hosts reach each other with --allow-net alone", async () => {
  await using lan = await Lan.open();
  await lan.answer("--allow-net");
  const { answers, asked } = await lan.ask("--allow-net");
  assertEquals({ answers, asked }, { answers: 1, asked: 1 });
});

labTest("two programs on one host reach each other", async () => {
  await using lan = await Lan.open();
  await lan.answer("--allow-net", lan.a);
  const { answers, asked } = await lan.ask("--allow-net");
  assertEquals({ answers, asked }, { answers: 1, asked: 1 });
});

labTest("a host with one link down is reached over the other", async () => {
  await using lan = await Lan.open();
  await lan.answer();
  await lan.b.sh("ip link set eth0 down");
  const { answers } = await lan.ask();
  assertEquals(answers, 1);
});

labTest("a host whose addresses change is reached at the new ones", async () => {
  await using lan = await Lan.open();
  await lan.answer();
  await lan.b.sh(`
    ip link set eth1 down
    ip addr flush dev eth1
    ip addr flush dev eth0
    ip addr add 10.0.0.22/24 dev eth0
  `);
  const { answers, asked } = await lan.ask();
  assertEquals(answers, 1);
  assert(asked < 10, `asked ${asked} times`);
});

/** The LAN of the drawing above. */
class Lan implements AsyncDisposable {
  readonly a: NetworkPlace;
  readonly b: NetworkPlace;

  private constructor(a: NetworkPlace, b: NetworkPlace) {
    this.a = a;
    this.b = b;
  }

  static async open({ mtu = 1500 }: { mtu?: number } = {}): Promise<Lan> {
    const a = await NetworkPlace.open("a");
    const lan = new Lan(a, await NetworkPlace.open("b", a));
    for (const name of ["eth0", "eth1"]) {
      await wire({ place: lan.a, name }, { place: lan.b, name });
    }
    for (const [place, host] of [[lan.a, 1], [lan.b, 2]] as const) {
      await place.sh(`
        ip link set eth0 mtu ${mtu}
        ip link set eth1 mtu ${mtu}
        ip addr add 10.0.0.${host}/24 dev eth0
        ip addr add 10.0.0.1${host}/24 dev eth0
        ip addr add 10.0.1.${host}/24 dev eth1
        ip route add default via 10.0.0.${3 - host}
      `);
    }
    return lan;
  }

  /** Starts the program that answers. */
  async answer(permissions = "-A", place = this.b): Promise<void> {
    const args = denoArgs(SCENARIO, ["answer"], { permissions });
    await place.serve(Deno.execPath(), args, { ready: /ready/ });
  }

  async ask(permissions = "-A"): Promise<LanAnswers> {
    const args = denoArgs(SCENARIO, ["ask"], { permissions });
    const { code, stdout, stderr } = await this.a.output("timeout", [
      ...["30", Deno.execPath()],
      ...args,
    ]);
    assertEquals(code, 0, stderr);
    return JSON.parse(stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.b[Symbol.asyncDispose]();
    await this.a[Symbol.asyncDispose]();
  }
}
