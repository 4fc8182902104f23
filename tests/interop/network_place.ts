/**
 * Network namespaces to put a machine into, wired with veth pairs.
 *
 * A namespace lives as long as a process that waits for the end of its input, which comes when this process ends,
 * however it ends. Wires and rules go with the namespaces.
 *
 * @module
 */

import { denoArgs, LabHost } from "../../lab/kernel/lab_host.ts";
import { privilegedCommand } from "../../lab/kernel/privileges.ts";

/** One namespace. What runs in it is started and ended as in the lab, and ends with this process at the latest. */
export class NetworkPlace implements AsyncDisposable {
  readonly #holder: Deno.ChildProcess;
  readonly #holds: WritableStreamDefaultWriter<Uint8Array>;
  readonly #host: LabHost;

  private constructor(name: string, holder: Deno.ChildProcess) {
    this.#holder = holder;
    this.#holds = holder.stdin.getWriter();
    this.#host = new LabHost(
      { name, segment: name, ipv4: [], ipv6: [], gateway: undefined, link: NO_LINK },
      [...enter(holder.pid), "--net", "--", "setpriv", "--pdeathsig", "KILL", "--"],
    );
  }

  /**
   * Opens a namespace with nothing but loopback in it.
   *
   * @param beside one that is open already: only namespaces of one family can be wired
   */
  static async open(name: string, beside?: NetworkPlace): Promise<NetworkPlace> {
    const makeNamespace = [
      "unshare",
      "--net",
      "--",
      "sh",
      "-c",
      HOLD,
    ];
    const [command, ...args] = beside === undefined
      ? privilegedCommand(makeNamespace)
      : [...enter(beside.pid), "--", ...makeNamespace];
    const holder = new Deno.Command(command!, { args, stdin: "piped", stdout: "piped" }).spawn();
    const place = new NetworkPlace(name, holder);
    const reader = holder.stdout.getReader();
    const { done } = await reader.read();
    await reader.cancel();
    if (!done) return place;
    await place[Symbol.asyncDispose]();
    throw new Error(`Cannot open namespace ${name}: its holder ended`);
  }

  /** Of the process that holds the namespace. */
  get pid(): number {
    return this.#holder.pid;
  }

  /** As {@linkcode LabHost.spawn}. What the program starts itself is the program's to end. */
  readonly spawn: LabHost["spawn"] = (...args) => this.#host.spawn(...args);
  /** As {@linkcode LabHost.output}. */
  readonly output: LabHost["output"] = (...args) => this.#host.output(...args);
  /** As {@linkcode LabHost.serve}. */
  readonly serve: LabHost["serve"] = (...args) => this.#host.serve(...args);
  /** As {@linkcode LabHost.json}. */
  readonly json = <T>(program: string | URL, args: readonly string[]): Promise<T> =>
    this.#host.json<T>(program, args);

  /**
   * Runs a script of the shell to its end.
   *
   * @returns what it printed
   * @throws {Error} if a command of it fails
   */
  async sh(script: string): Promise<string> {
    const { code, stdout, stderr } = await this.output("sh", ["-ec", script]);
    if (code === 0) return stdout;
    throw new Error(`Cannot run ${JSON.stringify(script)}: ${stderr || stdout}`);
  }

  /** Ends what runs in it, and the namespace with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host.endPrograms();
    await this.#holds.close().catch(() => {}); // the holder has ended already
    await this.#holder.status;
  }
}

/**
 * Wires two namespaces.
 *
 * @param a its interface there
 * @param b its interface here
 */
export async function wire(
  a: { readonly place: NetworkPlace; readonly name: string },
  b: { readonly place: NetworkPlace; readonly name: string },
): Promise<void> {
  await a.place.sh(`
    ip link add name ${a.name} type veth peer name ${b.name} netns ${b.place.pid}
    ip link set ${a.name} up
  `);
  await b.place.sh(`ip link set ${b.name} up`);
}

/**
 * Wires two namespaces so that a frame takes a while: there are kernels without netem. The wire lasts as long as the
 * first of the places.
 */
export async function wireWithDelay(
  a: { readonly place: NetworkPlace; readonly name: string },
  b: { readonly place: NetworkPlace; readonly name: string },
  delayMs: number,
): Promise<void> {
  const ends = [a, b].flatMap(({ place, name }) => [`${place.pid}`, name]);
  const args = denoArgs(DELAY_FRAMES, [`${delayMs}`, ...ends]);
  await a.place.serve(Deno.execPath(), args, { ready: /ready/ });
  for (const { place, name } of [a, b]) await place.sh(`ip link set ${name} up`);
}

/** A command that runs the command which follows it where the process lives; `--net` is for the caller to add. */
function enter(pid: number): string[] {
  const user = Deno.uid() === 0 ? [] : ["--user", "--preserve-credentials"];
  return ["nsenter", "--target", `${pid}`, ...user];
}

/** Without duplicate address detection, during which IPv6 does not answer for a second or two. */
const HOLD = `
  sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
  ip link set lo up
  echo
  exec cat
`;

const DELAY_FRAMES = new URL("programs/delay_frames.ts", import.meta.url);

const NO_LINK = { delayMs: { up: 0, down: 0 }, jitterMs: 0, loss: { up: 0, down: 0 } };
