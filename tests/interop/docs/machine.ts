/**
 * The machines of a reader: namespaces in one LAN, each with a home and terminals.
 *
 * ```text
 *   a 192.168.1.2 ─┐
 *   b 192.168.1.3 ─┼── LAN ── server 192.0.2.1 and 192.0.2.2
 *   c 192.168.1.4 ─┘
 * ```
 *
 * @module
 */

import { delay } from "@std/async/delay";
import { NetworkPlace, wire } from "../network_place.ts";

/** What each machine has besides its home. */
export interface MachineOptions {
  /** Its home folder. */
  readonly home: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A LAN that is set up as machines are used. */
export class Lan implements AsyncDisposable {
  readonly #switch: NetworkPlace;
  readonly #machines = new Map<string, Machine>();
  readonly #options: (name: string) => Promise<MachineOptions>;

  private constructor(place: NetworkPlace, options: (name: string) => Promise<MachineOptions>) {
    this.#switch = place;
    this.#options = options;
  }

  static async open(options: (name: string) => Promise<MachineOptions>): Promise<Lan> {
    const place = await NetworkPlace.open("lan");
    await place.sh("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up");
    return new Lan(place, options);
  }

  /** The machine of this name. */
  async machine(name: string): Promise<Machine> {
    const known = this.#machines.get(name);
    if (known !== undefined) return known;
    const addresses = ADDRESSES[name];
    if (addresses === undefined) throw new Error(`Cannot set up machine ${name}: it is unknown`);
    const place = await NetworkPlace.open(name, this.#switch);
    await wire({ place: this.#switch, name: `to-${name}` }, { place, name: "eth0" });
    await this.#switch.sh(`ip link set to-${name} master br0`);
    for (const address of addresses) await place.sh(`ip addr add ${address} dev eth0`);
    for (const net of ["192.168.1.0/24", "192.0.2.0/24", "224.0.0.0/4"]) {
      await place.sh(`ip route replace ${net} dev eth0`);
    }
    const machine = new Machine(place, await this.#options(name));
    this.#machines.set(name, machine);
    return machine;
  }

  /** All machines so far. */
  get machines(): readonly Machine[] {
    return [...this.#machines.values()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of this.#machines.values()) await machine[Symbol.asyncDispose]();
    await this.#switch[Symbol.asyncDispose]();
  }
}

/** One machine. */
export class Machine implements AsyncDisposable {
  readonly #place: NetworkPlace;
  readonly #options: MachineOptions;
  readonly #terminals = new Map<string, Terminal>();

  constructor(place: NetworkPlace, options: MachineOptions) {
    this.#place = place;
    this.#options = options;
  }

  /** Its home folder. */
  get home(): string {
    return this.#options.home;
  }

  /** The terminal of this name. */
  async terminal(name: string): Promise<Terminal> {
    let terminal = this.#terminals.get(name);
    if (terminal === undefined) {
      terminal = await Terminal.open(this.#place, name, this.#options);
      this.#terminals.set(name, terminal);
    }
    return terminal;
  }

  /** All terminals so far. */
  get terminals(): readonly Terminal[] {
    return [...this.#terminals.values()];
  }

  /** Runs a script apart from the terminals. */
  async run(script: string): Promise<void> {
    const { home, env } = this.#options;
    const { code, stdout, stderr } = await this.#place.output("bash", ["-ec", script], {
      cwd: home,
      clearEnv: true,
      env: { ...env },
    });
    if (code !== 0) throw new Error(`Cannot run ${script}\n${stdout}${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const terminal of this.#terminals.values()) await terminal.close();
    await this.#place[Symbol.asyncDispose]();
  }
}

/** A shell on a terminal. */
export class Terminal {
  readonly #socket: string;
  readonly #home: string;
  /** How many prompts there were when the last command was typed. */
  #prompts = 0;
  /** The screen up to here belongs to earlier commands. */
  #from = 0;

  private constructor(socket: string, home: string) {
    this.#socket = socket;
    this.#home = home;
  }

  static async open(
    place: NetworkPlace,
    name: string,
    { home, env }: MachineOptions,
  ): Promise<Terminal> {
    const socket = `${home}/.tmux-${name}`;
    const terminal = new Terminal(socket, home);
    place.spawn("tmux", ["-u", "-D", "-S", socket, "-f", "/dev/null"], {
      ...{
        cwd: home,
        clearEnv: true,
        env: { ...env, TERM: "xterm" },
        stdin: "null",
        stdout: "null",
      },
    });
    while (!await exists(socket)) await delay(20);
    // The shell would get the PATH of whoever asks tmux for it.
    const variables = Object.entries({ PATH: env.PATH, PS1: PROMPT });
    const shell = [
      ...["env", ...variables.map(([name, value]) => `${name}=${value}`)],
      ...["bash", "--noprofile", "--norc", "-i"],
    ];
    await terminal.#tmux("new-session", "-d", "-x", "200", "-y", "50", "-c", home, ...shell);
    await terminal.#until(() => terminal.#isIdle());
    return terminal;
  }

  /** Types a command, and Enter. */
  async enter(command: string): Promise<void> {
    if (!await this.#isIdle()) throw new Error(`Cannot type ${command}: a program runs here`);
    const lines = await this.#lines();
    this.#prompts = lines.filter((line) => PROMPTED.test(line)).length;
    this.#from = lines.length;
    await this.type(command);
  }

  /** Types a line, and Enter. */
  async type(line: string): Promise<void> {
    if (line !== "") await this.#tmux("send-keys", "-l", "--", line);
    await this.press("Enter");
  }

  /** Presses a key, by its name in tmux. */
  async press(key: string): Promise<void> {
    await this.#tmux("send-keys", key);
  }

  /** What the last command has printed so far. The home folder is `/home/you`, as in the pages. */
  async output(): Promise<string[]> {
    const lines = (await this.#lines()).slice(this.#from);
    return lines.map((line) => line.replaceAll(this.#home, "/home/you"));
  }

  /** Waits until the output fulfils the condition. */
  async shows(isEnough: (output: readonly string[]) => boolean, what: string): Promise<void> {
    let isShown = false;
    await this.#until(async () => {
      const isOver = await this.#isIdle();
      return (isShown = isEnough(await this.output())) || isOver;
    });
    if (isShown) return;
    throw new Error(`Cannot see ${what} in\n${(await this.output()).join("\n")}`);
  }

  /** The exit code of the last command, once it has ended. */
  async ended(): Promise<number> {
    if (await this.#until(() => this.#isIdle())) {
      return Number(PROMPTED.exec((await this.#lines()).at(-1)!)![1]);
    }
    throw new Error(`Cannot see an end of\n${(await this.output()).join("\n")}`);
  }

  /** Whether a program runs. */
  async isBusy(): Promise<boolean> {
    return !await this.#isIdle();
  }

  /** Ends everything that runs in it. */
  async close(): Promise<void> {
    await this.#tmux("kill-server");
  }

  async #isIdle(): Promise<boolean> {
    const lines = await this.#lines();
    const prompts = lines.filter((line) => PROMPTED.test(line)).length;
    return prompts > this.#prompts && /\$ ?$/.test(lines.at(-1)!) && PROMPTED.test(lines.at(-1)!);
  }

  async #until(isDone: () => Promise<boolean>): Promise<boolean> {
    const untilMs = performance.now() + MAX_WAIT_MS;
    while (!await isDone()) {
      if (performance.now() > untilMs) return false;
      await delay(POLL_MS);
    }
    return true;
  }

  async #lines(): Promise<string[]> {
    const text = await this.#tmux("capture-pane", "-p", "-J", "-S", "-");
    return text.trimEnd().split("\n").map((line) => line.trimEnd());
  }

  async #tmux(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await new Deno.Command("tmux", {
      args: ["-u", "-S", this.#socket, ...args],
      env: { TMUX: "" },
      stdin: "null",
    }).output();
    if (code === 0) return new TextDecoder().decode(stdout);
    throw new Error(`Cannot run tmux ${args[0]}: ${new TextDecoder().decode(stderr)}`);
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  a: ["192.168.1.2/24"],
  b: ["192.168.1.3/24"],
  c: ["192.168.1.4/24"],
  server: ["192.0.2.1/24", "192.0.2.2/24"],
};

/** The exit code of the last command, and its number. */
const PROMPT = "[$?]$ ";
const PROMPTED = /\[(\d+)\]\$(?: |$)/;

/** Chosen by us: twice as long as a command waits for a peer by default. */
const MAX_WAIT_MS = 60_000;
const POLL_MS = 100;
