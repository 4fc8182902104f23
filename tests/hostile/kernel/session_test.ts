// What a clock, a laptop's lid and a cable can do to a connection of two processes: it goes on.

import { assert, assertEquals } from "@std/assert";
import { denoArgs } from "../../../lab/kernel/lab_host.ts";
import { labTest } from "../../lab/lab_test_case.ts";
import { stepsAtOnce } from "../../lab/steps_at_once.ts";
import { CLI, HostileWorld, SIGNALING, WORLD_PROGRAMS } from "./place.ts";

const NEEDS = { programs: WORLD_PROGRAMS };
const PRELOAD = new URL("programs/jumping_clock.ts", import.meta.url).pathname;

/** They wait for minutes, so they run at once. */
const steps: [name: string, run: () => Promise<void>][] = [];

steps.push(["a connection goes on after both of its processes were stopped for 60 s", async () => {
  await using pair = await connectPair();
  await pair.exchange("before");
  await pair.near.write("on its way");
  for (const end of [pair.near, pair.far]) end.child.kill("SIGSTOP");
  await sleep(60_000);
  for (const end of [pair.near, pair.far]) end.child.kill("SIGCONT");
  await pair.far.reads("on its way");
  await pair.exchange("after");
}]);

steps.push(["a connection goes on after one of its processes was stopped for 60 s", async () => {
  await using pair = await connectPair();
  await pair.exchange("before");
  pair.far.child.kill("SIGSTOP");
  await pair.near.write("on its way");
  await sleep(60_000);
  pair.far.child.kill("SIGCONT");
  await pair.far.reads("on its way");
  await pair.exchange("after");
}]);

steps.push(["a connection goes on when the wall clock of either side jumps ten years", async () => {
  await using pair = await connectPair();
  await pair.exchange("before");
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) {
    for (const end of [pair.near, pair.far]) {
      end.child.kill(signal);
      await sleep(3000);
      await pair.exchange(`after ${signal}`);
    }
  }
}]);

for (const [first, second] of [["far", "near"], ["near", "far"]] as const) {
  const sides = { far: "listener", near: "connector" };
  steps.push([
    `a connection finds another path after the clock of the ${
      sides[first]
    } jumped ten years ahead and that of the ${
      sides[second]
    } ten years back, each before a cable was out for 25 s`,
    async () => {
      await using pair = await connectPair();
      await pair.exchange("before");
      pair[first].child.kill("SIGUSR1");
      await cutCable(pair);
      await pair.exchange("after the first");
      pair[second].child.kill("SIGUSR2");
      await sleep(65_000); // so that the listener renews its topics
      await cutCable(pair);
      await pair.exchange("after the second");
    },
  ]);
}

labTest(
  "a connection of two processes goes on",
  (context) => stepsAtOnce(context, steps),
  NEEDS,
);

/** One end: a running command, whose stdin and stdout are the connection. */
class End {
  readonly child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #read = "";
  #errors = "";

  constructor(child: Deno.ChildProcess) {
    this.child = child;
    this.#writer = child.stdin.getWriter();
    this.#collect(child.stdout, (text) => this.#read += text);
    this.#collect(child.stderr, (text) => this.#errors += text);
  }

  async write(text: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${text}\n`));
  }

  /** Waits until this line has arrived. */
  async reads(text: string): Promise<void> {
    await this.#until(() => this.#read.includes(`${text}\n`), `arrival of ${text}`);
  }

  /** Waits until this is on stderr. */
  async prints(pattern: RegExp): Promise<string> {
    await this.#until(() => pattern.test(this.#errors), String(pattern));
    return pattern.exec(this.#errors)![0];
  }

  /** Ends the command. */
  async end(): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.child.status;
    await this.#writer.abort().catch(() => {});
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    const deadlineMs = performance.now() + DEADLINE_MS;
    while (!condition()) {
      assert(performance.now() < deadlineMs, `no ${what}; stderr: ${this.#errors}`);
      await sleep(20);
    }
  }

  async #collect(
    stream: ReadableStream<Uint8Array<ArrayBuffer>>,
    add: (text: string) => void,
  ): Promise<void> {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) add(text);
  }
}

interface Pair extends AsyncDisposable {
  readonly world: HostileWorld;
  readonly near: End;
  readonly far: End;
  /** Sends a line in each direction. */
  exchange(text: string): Promise<void>;
}

async function cutCable({ world }: Pair): Promise<void> {
  await world.host.sh("ip link set lan down");
  await sleep(25_000);
  await world.host.sh("ip link set lan up; ip route add default via 192.168.1.1");
}

async function connectPair(): Promise<Pair> {
  const world = await HostileWorld.open();
  await world.serve();
  const start = (place: HostileWorld["host"], args: readonly string[]) => {
    const run = denoArgs(CLI, args);
    return new End(
      place.spawn(Deno.execPath(), [run[0]!, "--preload", PRELOAD, ...run.slice(1)], {
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
        env: { CLOCK_JUMP_MS: `${TEN_YEARS_MS}` },
      }),
    );
  };
  const far = start(world.others, ["listen", ...SIGNALING, "--strategy", "direct,lan,punch-tcp"]);
  const ticket = await far.prints(/punchline:[\w-]{60,}/);
  const near = start(world.host, ["connect", ticket, ...SIGNALING.slice(2)]);
  let count = 0;
  return {
    world,
    near,
    far,
    async exchange(text) {
      count++;
      await near.write(`${text} ${count}`);
      await far.reads(`${text} ${count}`);
      await far.write(`${text} ${count} back`);
      await near.reads(`${text} ${count} back`);
      assertEquals(near.child.pid > 0, true);
    },
    async [Symbol.asyncDispose]() {
      await near.end();
      await far.end();
      await world[Symbol.asyncDispose]();
    },
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const TEN_YEARS_MS = 10 * 365 * 86_400_000;

/** A path that was lost is noticed, searched for and found again within this. */
const DEADLINE_MS = 45_000;
