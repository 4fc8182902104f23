/**
 * `map add` against gateways with a fault, in network namespaces:
 *
 * ```
 *   host: 192.168.1.2  lan -------- lan0  router: 192.168.1.1, a program that plays the gateway
 * ```
 *
 * Whatever the gateway does, its table holds exactly what the command has announced: after the start, a renewal, a restart
 * of the router, Ctrl-C and TERM, also while the command still waits for the router.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { denoArgs, type RunResult } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import { stepsAtOnce } from "../lab/steps_at_once.ts";
import { MORE } from "../portmap/gateways/more.ts";
import { REPORTED } from "../portmap/gateways/reported.ts";
import type { GatewayScenario } from "../portmap/gateways/scenario.ts";
import { MapCommand } from "./map_command.ts";
import { NetworkPlace, wire } from "./network_place.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
const GATEWAY = new URL("programs/fake_gateway.ts", import.meta.url);
const ROUTER_IP = "192.168.1.1";
const HOST_IP = "192.168.1.2";
const OWN = `tcp 8080 to ${HOST_IP}:8080`;
const PIPED = { stdin: "null", stdout: "piped", stderr: "null" } as const;

const ALL = [...REPORTED, ...MORE];

/** What is tested, by its name; all of it runs in one test, several at once. */
const steps: [name: string, run: () => Promise<void>][] = [];

for (const [index, scenario] of REPORTED.entries()) {
  const signal = index % 2 === 0 ? "SIGINT" : "SIGTERM";
  const title = `a gateway that ${scenario.does} (${scenario.name})`;
  if (scenario.right instanceof RegExp) {
    const { right } = scenario;
    steps.push([
      `map add tells ${title} as it is`,
      () =>
        atHome(scenario, async ({ gateway, addToTheEnd }) => {
          const stood = await gateway.open();
          const { code, stderr } = await addToTheEnd();
          assertEquals(code, 1);
          assertMatch(stderr, right);
          assertEquals(await gateway.open(), stood);
        }),
    ]);
    continue;
  }
  steps.push([
    `map add with ${title} maps the port, and ${signal} leaves nothing open`,
    () =>
      atHome(scenario, async ({ gateway, add }) => {
        const stood = await gateway.open();
        await using command = new MapCommand(add());
        const { external } = await command.next("mapped");
        assert(external.endsWith(":8080"), external);
        assertEquals(await gateway.open(), [...stood, OWN].sort());
        assertEquals(await command.end(signal), signal === "SIGINT" ? 130 : 143);
        assertEquals((await command.next("released")).reason, undefined);
        assertEquals(await gateway.open(), stood);
      }),
  ]);
}

for (const name of ["base", "u10b", "u39", "u43a", "u43b", "u49", "add-conflict-refresh"]) {
  const scenario = scenarioOf(name);
  steps.push([
    `map add with a gateway that ${scenario.does} keeps the port through renewals and a restart`,
    () =>
      atHome(scenario, async ({ gateway, add }) => {
        const stood = await gateway.open();
        await using command = new MapCommand(add("--lifetime", "10", "--check", "1"));
        await command.next("mapped");
        for (let renewal = 0; renewal < 2; renewal++) {
          assertMatch((await command.next("renewed")).external, /:8080$/);
          assertEquals(await gateway.open(), [...stood, OWN].sort());
        }
        await gateway.restart();
        await command.next("lost");
        assertMatch((await command.next("mapped")).external, /:8080$/);
        assertEquals(await gateway.open(), [OWN]);
        assertEquals(await command.interrupt(), 130);
        assertEquals(await gateway.open(), []);
      }),
  ]);
}

for (const name of ["u25a", "u25c", "u44", "add-late", "add-busy"]) {
  const scenario = scenarioOf(name);
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    steps.push([
      `${signal} while map add waits for a gateway that ${scenario.does} leaves nothing open`,
      () =>
        atHome(scenario, async ({ gateway, add }) => {
          await using command = new MapCommand(add());
          await delay(2500);
          assertEquals(await command.end(signal), signal === "SIGINT" ? 130 : 143);
          assertEquals(await gateway.open(), []);
          await delay(name === "add-late" ? 9000 : 500);
          assertEquals(await gateway.open(), []);
        }),
    ]);
  }
}

labTest(
  "map add leaves in the table of a faulty gateway what it has announced",
  (context) => stepsAtOnce(context, steps),
);

interface Home {
  readonly gateway: GatewayProgram;
  /** Starts `map add` in the host. */
  add(...options: string[]): Deno.ChildProcess;
  /** Runs `map add` for people, until it fails. */
  addToTheEnd(): Promise<RunResult>;
}

function scenarioOf(name: string): GatewayScenario {
  return ALL.find((scenario) => scenario.name === name)!;
}

async function atHome(
  scenario: GatewayScenario,
  job: (home: Home) => Promise<void>,
): Promise<void> {
  await using router = await NetworkPlace.open("router");
  await using host = await NetworkPlace.open("host", router);
  await wire({ place: router, name: "lan0" }, { place: host, name: "lan" });
  await router.sh(`ip addr add ${ROUTER_IP}/24 dev lan0`);
  await host.sh(`ip addr add ${HOST_IP}/24 dev lan; ip route add default via ${ROUTER_IP}`);
  await using gateway = await GatewayProgram.start(router, scenario.name);
  const [protocol = "upnp"] = scenario.options?.protocols ?? [];
  const args = ["map", "add", "tcp", "8080", "--protocol", protocol];
  await job({
    gateway,
    add: (...options) =>
      host.spawn(Deno.execPath(), denoArgs(CLI, [...args, "--json", ...options]), PIPED),
    addToTheEnd: () => host.output(Deno.execPath(), denoArgs(CLI, args)),
  });
}

/** The program that plays the gateway. */
class GatewayProgram implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  static async start(router: NetworkPlace, name: string): Promise<GatewayProgram> {
    const args = denoArgs(GATEWAY, [name, ROUTER_IP]);
    const child = router.spawn(Deno.execPath(), args, {
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    });
    const gateway = new GatewayProgram(child);
    assertEquals(await gateway.#line(), "ready");
    return gateway;
  }

  /** What is open, as {@linkcode ScenarioGateway.open} says. */
  async open(): Promise<string[]> {
    return await this.#ask("open") as string[];
  }

  /** As after a power cut. */
  async restart(): Promise<void> {
    await this.#ask("restart");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#child.status;
    await this.#reader.cancel();
  }

  async #ask(what: string): Promise<unknown> {
    await this.#writer.write(new TextEncoder().encode(`${what}\n`));
    return await this.#line();
  }

  async #line(): Promise<unknown> {
    while (!this.#rest.includes("\n")) {
      const { done, value } = await this.#reader.read();
      if (done) throw new Error("Cannot read from the gateway: it has ended");
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line);
  }
}
