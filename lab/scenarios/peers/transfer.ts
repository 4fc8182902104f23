/**
 * File transfers through two NATs, with interruptions, compared with a bare TCP connection over the same path.
 *
 * @module
 */

import { denoArgs, type LabHost } from "../../kernel/lab_host.ts";
import { nat } from "../../kernel/topology.ts";
import { HostCommand } from "./host_command.ts";
import { PeerLab, RENDEZVOUS_URL, STUN_ADDRESSES } from "./peer_lab.ts";

/** What to transfer. */
export interface TransferOptions {
  readonly megabytes: number;
  /** How often both NATs forget all mappings during the transfer. */
  readonly cuts: number;
}

/** The result of a transfer. */
export interface TransferResult extends TransferOptions {
  /** Whether the received file has the hash of the sent one. */
  readonly isWhole: boolean;
  /** How many paths the receiver used after the first. */
  readonly newPaths: number;
  /** How long `recv` took, in seconds. */
  readonly seconds: number;
  /** How long the same file took with `punch`, which is plain TCP. */
  readonly bareSeconds: number;
}

/** Transfers a file with `send` and `recv`, then with `punch`. */
export async function runTransfer({ megabytes, cuts }: TransferOptions): Promise<TransferResult> {
  const folder = await Deno.makeTempDir({ prefix: "transfer-" });
  try {
    const file = `${folder}/file`;
    await writeRandom(file, megabytes);
    await Deno.mkdir(`${folder}/to`);
    // The NATs choose ports at random, so that no connection survives a flush by itself.
    const home = () => nat({ allocation: { kind: "random" } });
    await using lab = await PeerLab.start({
      internet: { rttMs: 20 },
      hosts: { a: { behind: home() }, b: { behind: home() } },
    });
    const [a, b] = [lab.lab.host("a"), lab.lab.host("b")];
    const bareSeconds = await carryBare(a, b, file);
    const cut = async () => {
      for (const name of ["a/nat", "b/nat"]) await lab.lab.nat(name).flush();
    };
    const sent = await carryFile(a, b, { file, to: `${folder}/to`, cuts, cut });
    const isWhole = await digestOf(file) === await digestOf(`${folder}/to/file`);
    return { megabytes, cuts, isWhole, bareSeconds, ...sent };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Transfers the file over plain TCP. */
async function carryBare(a: LabHost, b: LabHost, file: string): Promise<number> {
  const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
  const args = denoArgs(CLI, ["punch", "bare", "--rendezvous", RENDEZVOUS_URL, ...servers]);
  const quoted = args.map((arg) => `'${arg}'`).join(" ");
  const run = (host: LabHost, io: string) =>
    host.output("sh", ["-c", `'${Deno.execPath()}' ${quoted} ${io}`]);
  const startedAtMs = performance.now();
  const ends = await Promise.all([
    run(a, `< '${file}'`),
    run(b, "< /dev/null > /dev/null"),
  ]);
  for (const { code, stderr } of ends) if (code !== 0) throw new Error(`Cannot punch: ${stderr}`);
  return (performance.now() - startedAtMs) / 1000;
}

async function carryFile(
  a: LabHost,
  b: LabHost,
  { file, to, cuts, cut }: {
    file: string;
    to: string;
    cuts: number;
    cut: () => Promise<void>;
  },
): Promise<{ seconds: number; newPaths: number }> {
  const servers = STUN_ADDRESSES.flatMap((server) => ["--server", server]);
  await using sender = new HostCommand(a, [
    "send",
    file,
    "--rendezvous",
    RENDEZVOUS_URL,
    ...servers,
  ]);
  const { ticket } = await sender.until("ticket");
  const startedAtMs = performance.now();
  await using receiver = new HostCommand(b, ["recv", `${ticket}`, "--yes", "--to", to, ...servers]);
  let cutsDone = 0;
  let newPaths = 0;
  for await (const { event, bytes, totalBytes } of receiver.events()) {
    if (event === "path") newPaths++;
    const isDue = event === "progress" &&
      Number(bytes) >= Number(totalBytes) * (cutsDone + 1) / (cuts + 1);
    if (isDue && cutsDone < cuts) {
      cutsDone++;
      await cut();
    }
  }
  const seconds = (performance.now() - startedAtMs) / 1000;
  const ends = await Promise.all([sender.end(), receiver.end()]);
  if (ends.some(({ code }) => code !== 0)) throw new Error("Cannot send the file");
  if (cutsDone < cuts) {
    throw new Error(`Cannot interrupt ${cuts} times: the transfer ended after ${cutsDone}`);
  }
  return { seconds, newPaths };
}

async function writeRandom(path: string, megabytes: number): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  const block = new Uint8Array(2 ** 20);
  for (let index = 0; index < megabytes; index++) {
    for (let at = 0; at < block.length; at += 65_536) {
      crypto.getRandomValues(block.subarray(at, at + 65_536));
    }
    for (let written = 0; written < block.length;) {
      written += await file.write(block.subarray(written));
    }
  }
}

async function digestOf(path: string): Promise<string> {
  const { stdout } = await new Deno.Command("sha256sum", { args: [path] }).output();
  return new TextDecoder().decode(stdout).split(" ")[0]!;
}

const CLI = new URL("../../../cli.ts", import.meta.url);
