/**
 * A host whose whole world is hostile: every address that it can reach is answered by programs of a test, and every
 * packet that it sends there is seen.
 *
 * ```
 *   host                       others
 *   192.168.1.2     veth       192.168.1.1   its router
 *   default via .1  ------     192.168.1.50  a neighbour with services of its own
 *                              192.168.1.66  a neighbour that attacks
 *                              44.0.0.9      a server on the internet
 *                              44.0.0.66     a third party there
 *                              44.0.0.10     an honest server, and a peer
 * ```
 *
 * @module
 */

import { denoArgs } from "../../../lab/kernel/lab_host.ts";
import { NetworkPlace, wire } from "../../interop/network_place.ts";

/** Who is who. */
export const WORLD = {
  host: "192.168.1.2",
  gateway: "192.168.1.1",
  neighbour: "192.168.1.50",
  attacker: "192.168.1.66",
  server: "44.0.0.9",
  victim: "44.0.0.66",
  honest: "44.0.0.10",
} as const;

/** The programs it takes: for `labTest()`. */
export const WORLD_PROGRAMS: readonly string[] = ["ip", "tcpdump"];

/** What a command did. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
  /** The most memory that it held. */
  readonly peakRssBytes: number;
  /** How many SYNs and datagrams left the host, by where they went: `tcp 192.168.1.1:5000`. */
  readonly sent: ReadonlyMap<string, number>;
}

/** How to run a command. */
export interface RunCommandOptions {
  /** `-A` without this; users run it with `--allow-net` too, where the routing table cannot be read. */
  readonly permissions?: string;
  /** Ctrl-C is pressed then, if it still runs. */
  readonly interruptAfterMs?: number;
  /** A command that runs for longer is stuck. */
  readonly stuckAfterMs?: number;
}

/** The host and the others. */
export class HostileWorld implements AsyncDisposable {
  readonly host: NetworkPlace;
  readonly others: NetworkPlace;
  readonly #sent: string[];

  private constructor(host: NetworkPlace, others: NetworkPlace, sent: string[]) {
    this.host = host;
    this.others = others;
    this.#sent = sent;
  }

  /** Opens the namespaces, and watches. */
  static async open(): Promise<HostileWorld> {
    await using opened = new AsyncDisposableStack();
    const others = opened.use(await NetworkPlace.open("others"));
    const host = opened.use(await NetworkPlace.open("host", others));
    await wire({ place: others, name: "all0" }, { place: host, name: "lan" });
    await others.sh(OTHERS_SETUP);
    await host.sh(HOST_SETUP);
    const sent: string[] = [];
    await watch(others, sent);
    opened.move();
    return new HostileWorld(host, others, sent);
  }

  /**
   * Starts a hostile program among the others.
   *
   * @param name of a file in `programs/`
   */
  async attack(name: string, args: readonly string[]): Promise<Deno.ChildProcess> {
    const program = new URL(`programs/${name}`, import.meta.url);
    const serving = await this.others.serve(Deno.execPath(), denoArgs(program, args), {
      ready: /ready/,
    });
    return serving.child;
  }

  /** Starts an honest STUN and rendezvous server. */
  async serve(): Promise<void> {
    await this.others.serve(
      Deno.execPath(),
      denoArgs(CLI, ["serve", "--address", WORLD.honest, "--no-relay", "--json"]),
      { ready: /listening/ },
    );
  }

  /**
   * Starts an honest peer that echoes what it reads.
   *
   * @returns its process and its ticket
   */
  async listen(): Promise<{ readonly child: Deno.ChildProcess; readonly ticket: string }> {
    const args = denoArgs(CLI, ["listen", ...SIGNALING]);
    const { child, output } = await this.others.serve(
      "sh",
      ["-c", 'exec "$0" "$@" 2>&1', Deno.execPath(), ...args],
      { ready: /punchline:[\w-]{60,}/ },
    );
    return { child, ticket: /punchline:[\w-]{60,}/.exec(output)![0] };
  }

  /** Runs a command of Punchline on the host. */
  async run(args: readonly string[], options: RunCommandOptions = {}): Promise<Outcome> {
    const { permissions = "-A", interruptAfterMs, stuckAfterMs = STUCK_AFTER_MS } = options;
    const before = this.#sent.length;
    const startedMs = performance.now();
    const child = this.host.spawn(Deno.execPath(), denoArgs(CLI, args, { permissions }), {
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    });
    let peakRssBytes = 0;
    const sampling = setInterval(() => {
      peakRssBytes = Math.max(peakRssBytes, peakRss(child.pid));
    }, SAMPLE_MS);
    const interrupting = interruptAfterMs === undefined
      ? undefined
      : setTimeout(() => child.kill("SIGINT"), interruptAfterMs);
    const killing = setTimeout(() => child.kill("SIGKILL"), stuckAfterMs);
    const { code, stdout, stderr } = await child.output();
    for (const timer of [sampling, interrupting, killing]) clearTimeout(timer);
    const elapsedMs = performance.now() - startedMs;
    await new Promise((resolve) => setTimeout(resolve, WATCH_DELAY_MS));
    const decoder = new TextDecoder();
    return {
      code,
      stdout: decoder.decode(stdout),
      stderr: decoder.decode(stderr),
      elapsedMs,
      peakRssBytes,
      sent: Map.groupBy(this.#sent.slice(before), (to) => to)
        .entries().reduce((all, [to, each]) => all.set(to, each.length), new Map<string, number>()),
    };
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const place of [this.host, this.others]) await place[Symbol.asyncDispose]();
  }
}

/** The most memory that a process has held; 0 once it is gone. */
export function peakRss(pid: number): number {
  return statusOf(pid, "VmHWM");
}

/** The memory that a process holds; 0 once it is gone. */
export function rss(pid: number): number {
  return statusOf(pid, "VmRSS");
}

function statusOf(pid: number, field: string): number {
  try {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Notes where every SYN and datagram of the host goes to. */
async function watch(others: NetworkPlace, sent: string[]): Promise<void> {
  const child = others.spawn("tcpdump", ["-i", "all0", "-lnnq", "-B", "65536", FILTER], {
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const errors = child.stderr.getReader();
  const { value } = await errors.read(); // it says what it listens to
  if (value === undefined) throw new Error("Cannot watch: tcpdump has ended");
  (async () => {
    while (!(await errors.read()).done);
  })();
  (async () => {
    let rest = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const to = / IP \S+ > ([\d.]+)\.(\d+): (tcp|UDP)/.exec(line);
        if (to !== null) sent.push(`${to[3]!.toLowerCase()} ${to[1]}:${to[2]}`);
      }
    }
  })();
}

/** The options for the honest server. */
export const SIGNALING: readonly string[] = [
  ...["--rendezvous", `ws://${WORLD.honest}:3480`],
  ...["--server", WORLD.honest],
];

/** The command line. */
export const CLI = new URL("../../../cli.ts", import.meta.url);

const FILTER = `src host ${WORLD.host} and (udp or tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn)`;

const OTHERS_SETUP = `
  for address in 192.168.1.1 192.168.1.50 192.168.1.66; do
    ip addr add $address/24 dev all0
  done
  for address in 44.0.0.9 44.0.0.10 44.0.0.66 192.0.0.9; do ip addr add $address/32 dev lo; done
`;

const HOST_SETUP = `
  ip addr add 192.168.1.2/24 dev lan
  ip route add default via 192.168.1.1
`;

const SAMPLE_MS = 50;
const STUCK_AFTER_MS = 60_000;
/** tcpdump hands over what it has seen within a second. */
const WATCH_DELAY_MS = 1200;
