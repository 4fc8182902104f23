/**
 * How long each command that waits is silent, in a pseudo-terminal: never more than two seconds. With `--show` it prints the
 * figures:
 *
 *     deno test -A tests/interop/silence_test.ts -- --show
 *
 * @module
 */

import { assert } from "@std/assert";
import { WITHOUT_SETTINGS } from "../../lab/kernel/lab_host.ts";
import { encodeTicket } from "../../lib/peer/ticket.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { CLI, WITH_UNSTABLE, withScratch } from "../cli/command.ts";
import { serveLocally } from "../cli/run_main.ts";
import { terminalTest } from "../cli/terminal.ts";

/** From the first output on; long enough for a line that is not redrawn to show. */
const WATCH_MS = 6000;

/** What the contract allows. */
const MAX_SILENCE_MS = 2000;

terminalTest("no command that waits is silent for more than two seconds", async (test) => {
  await using stun = await serveLocally();
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
  });
  using silent = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 });
  const { port } = silent.local;
  const dead = encodeTicket({
    publicKey: crypto.getRandomValues(new Uint8Array(32)),
    secret: crypto.getRandomValues(new Uint8Array(16)),
    signaling: [rendezvous.url],
  });
  const peer = ["--rendezvous", rendezvous.url, "--server", stun.name];
  await withScratch(async (folder) => {
    await Deno.writeTextFile(`${folder}/notes.txt`, "notes");
    await Deno.writeTextFile(`${folder}/other.txt`, "other");
    const commands: Record<string, readonly string[]> = {
      "listen": ["listen", ...peer],
      "connect to a peer that is not there": ["connect", dead, ...peer],
      "send": ["send", `${folder}/notes.txt`, ...peer],
      "recv from a peer that is not there": ["recv", dead, ...peer],
      "punch": ["punch", "quiet", ...peer],
      "nat-test with a server that does not answer": [
        ...["nat-test", "--server", `127.0.0.1:${port}`, "--timeout", "6000"],
      ],
      "stun with a server that does not answer": ["stun", `127.0.0.1:${port}`],
      "map probe without a router": ["map", "probe", "--gateway", "192.0.2.77"],
      "map add without a router": ["map", "add", "tcp", "8080", "--gateway", "192.0.2.77"],
      "serve": [
        ...["serve", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
      ],
    };
    for (const [name, args] of Object.entries(commands)) {
      await test.step(name, async () => {
        await using terminal = Recorder.start(args);
        const { silentMs, firstMs } = await terminal.watch(WATCH_MS);
        report(name, silentMs, firstMs);
        assert(silentMs <= MAX_SILENCE_MS, `${silentMs} ms\n${terminal.text}`);
      });
    }
    await test.step("send, while the receiver is asked", async () => {
      await using sender = Recorder.start(["send", `${folder}/other.txt`, ...peer]);
      const [ticket] = await sender.prints(/punchline:[\w-]{60,}/);
      await using receiver = Recorder.start(["recv", ticket!, "--to", folder, ...peer]);
      await receiver.prints(/\[y\/N\]/);
      const { silentMs, firstMs } = await sender.watch(WATCH_MS);
      report("send, while the receiver is asked", silentMs, firstMs);
      assert(silentMs <= MAX_SILENCE_MS, `${silentMs} ms\n${sender.text}`);
      assert(sender.text.includes("Waiting for the receiver's answer"), sender.text);
    });
  });
});

/** A command in a terminal, and when it printed what. */
class Recorder implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #startedAtMs = performance.now();
  readonly #printedAtMs: number[] = [];
  readonly #reading: Promise<void>;
  text = "";

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = this.#read();
  }

  static start(args: readonly string[]): Recorder {
    const command = [
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", "--config", WITH_UNSTABLE, "-A", CLI],
      ...args,
    ].map((word) => `'${word}'`).join(" ");
    const child = new Deno.Command("script", {
      args: ["--quiet", "--return", "--flush", "--command", `exec ${command}`, "/dev/null"],
      env: { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", SHELL: "/bin/sh", ...WITHOUT_SETTINGS },
      stdin: "piped", // open, as a keyboard is
      stdout: "piped",
      stderr: "null",
    }).spawn();
    return new Recorder(child);
  }

  /** Waits until this has been printed. */
  async prints(pattern: RegExp): Promise<RegExpExecArray> {
    for (let waits = 0; waits < 300; waits++) {
      const found = pattern.exec(this.text);
      if (found !== null) return found;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`It has not printed ${pattern}: ${this.text}`);
  }

  /** The longest silence, until the time is over or the command ends; and how long it took to print anything. */
  async watch(watchMs: number): Promise<{ silentMs: number; firstMs: number }> {
    await this.prints(/./);
    const ended = this.#child.status;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const watched = new Promise((resolve) => timer = setTimeout(resolve, watchMs));
    await Promise.race([watched, ended]);
    clearTimeout(timer);
    const times = [...this.#printedAtMs, performance.now()];
    const gaps = times.slice(1).map((atMs, index) => atMs - times[index]!);
    return {
      silentMs: Math.round(Math.max(0, ...gaps)),
      firstMs: Math.round(times[0]! - this.#startedAtMs),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL"); // hangs up
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended
    }
    await this.#child.stdin.close().catch(() => {});
    await this.#child.status;
    await this.#reading;
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.text += text;
      this.#printedAtMs.push(performance.now());
    }
  }
}

function report(name: string, silentMs: number, firstMs: number): void {
  if (!Deno.args.includes("--show")) return;
  // deno-lint-ignore no-console -- what it prints is its result
  console.log(
    JSON.stringify({ command: name, longestSilenceMs: silentMs, firstOutputMs: firstMs }),
  );
}
