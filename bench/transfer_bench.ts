// deno-lint-ignore-file no-console
/**
 * How long a file of 256 MiB takes from one process to another over loopback, with `sendFiles` and `receiveFiles`
 * against a bare copy from file to connection to file, in alternating rounds. What counts is the ratio of the medians;
 * `baselines/transfer.json` has it.
 *
 *     deno run -A bench/transfer_bench.ts [--update]
 *
 * Fails if the ratio is less than 80 % of the baseline's.
 *
 * @module
 */

import { systemNetwork } from "../lib/net/system.ts";
import { receiveFiles } from "../lib/transfer/receiver.ts";
import { sendFiles } from "../lib/transfer/sender.ts";
import { median } from "./median.ts";

/** The figure in `baselines/transfer.json`: time of the bare copy / time of the transfer, so 1 is as fast. */
interface Baseline {
  readonly ratio: number;
}

async function compare(): Promise<Baseline> {
  const folder = await Deno.makeTempDir();
  try {
    const piece = crypto.getRandomValues(new Uint8Array(65_536));
    using source = await Deno.create(`${folder}/source`);
    for (let left = TOTAL_BYTES; left > 0; left -= piece.length) await source.write(piece);
    await using peer = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", import.meta.filename!, "peer", `${folder}/source`],
      stdout: "piped",
    }).spawn();
    const [bare, transfer] = await readPorts(peer.stdout);
    const times = { bare: [] as number[], transfer: [] as number[] };
    for (let round = 0; round < ROUNDS; round++) {
      const turns = [
        async () => times.bare.push(await measure(folder, () => copy(bare!, `${folder}/in/copy`))),
        async () =>
          times.transfer.push(await measure(folder, () => receive(transfer!, `${folder}/in`))),
      ];
      if (round % 2 === 1) turns.reverse();
      for (const turn of turns) await turn();
    }
    for (const [name, all] of Object.entries(times)) {
      console.log(`${name}: ${(TOTAL_BYTES / 1e3 / median(all)).toFixed(0)} MB/s`);
    }
    peer.kill();
    return { ratio: median(times.bare) / median(times.transfer) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function measure(folder: string, act: () => Promise<unknown>): Promise<number> {
  await Deno.mkdir(`${folder}/in`);
  const startedMs = performance.now();
  await act();
  const elapsedMs = performance.now() - startedMs;
  await Deno.remove(`${folder}/in`, { recursive: true });
  return elapsedMs;
}

async function copy(port: number, path: string): Promise<void> {
  using connection = await systemNetwork.connectTcp({ ip: "127.0.0.1", port });
  using file = await Deno.create(path);
  const piece = new Uint8Array(PIECE_BYTES);
  for (let count; (count = await connection.read(piece)) !== null;) {
    for (let at = 0; at < count;) at += await file.write(piece.subarray(at, count));
  }
  await file.sync(); // as receiveFiles() does
}

function receive(port: number, folder: string): Promise<unknown> {
  return receiveFiles(
    ({ signal }) => systemNetwork.connectTcp({ ip: "127.0.0.1", port }, { signal }),
    folder,
    { onOffer: () => true },
  );
}

/** Sends the file to every client: bare on one port, with `sendFiles` on the other. */
async function serve(path: string): Promise<void> {
  const [bare, transfer] = await Promise.all([0, 1].map(() => {
    return systemNetwork.listenTcp({ ip: "127.0.0.1", port: 0 });
  }));
  console.log(`${bare!.local.port} ${transfer!.local.port}`);
  const serveBare = async () => {
    for (;;) {
      using connection = await bare!.accept();
      using file = await Deno.open(path);
      const piece = new Uint8Array(PIECE_BYTES);
      for (let count; (count = await file.read(piece)) !== null;) {
        await connection.write(piece.subarray(0, count));
      }
      await connection.closeWrite();
      await connection.read(piece);
    }
  };
  const serveTransfer = async () => {
    for (;;) await sendFiles(({ signal }) => transfer!.accept({ signal }), [path]);
  };
  await Promise.all([serveBare(), serveTransfer()]);
}

async function readPorts(stdout: ReadableStream<Uint8Array>): Promise<number[]> {
  const reader = stdout.getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return new TextDecoder().decode(value).trim().split(" ").map(Number);
}

const TOTAL_BYTES = 256 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;
const ROUNDS = 9;
const TOLERANCE = 0.8;
const BASELINE = new URL("./baselines/transfer.json", import.meta.url);

if (import.meta.main && Deno.args[0] === "peer") {
  await serve(Deno.args[1]!);
} else if (import.meta.main) {
  const { ratio } = await compare();
  console.log(`ratio: ${ratio.toFixed(2)}`);
  if (Deno.args.includes("--update")) {
    const kept = { ratio: Math.round(ratio * 100) / 100 };
    Deno.writeTextFileSync(BASELINE, JSON.stringify(kept, null, 2) + "\n");
  } else {
    const baseline: Baseline = JSON.parse(Deno.readTextFileSync(BASELINE));
    if (ratio < baseline.ratio * TOLERANCE) {
      console.log(`the ratio was ${baseline.ratio}`);
      Deno.exitCode = 1;
    }
  }
}
