import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError } from "../../lib/base/errors.ts";
import { Consent } from "../../lib/cli/consent.ts";
import type { CliIo } from "../../lib/cli/io.ts";
import { runReceive } from "../../lib/cli/recv.ts";
import { withScreen } from "../../lib/cli/screen.ts";
import { runSend } from "../../lib/cli/send.ts";
import { StdinLines } from "../../lib/cli/stdin_lines.ts";
import {
  formatBytes,
  formatDuration,
  progressBar,
  TransferReporter,
} from "../../lib/cli/transfer_progress.ts";
import type { TransferProgress } from "../../lib/transfer/mod.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { connectionSources } from "../transfer/pipe.ts";
import { noTerminal } from "./no_terminal.ts";

Deno.test("send and recv print each file and a summary, and exit with 0", async () => {
  await using folder = await scratch();
  const { sent, received } = await transfer(folder.path, false);
  assertEquals([sent.code, received.code], [0, 0]);
  assertEquals(sent.err.slice(0, 2), ["Offering 2 files, 8 bytes: data", "data/a  (5 bytes)"]);
  const checked = "Checked: all 2 files have the same SHA-256 on both sides";
  assertMatch(sent.err.at(-2)!, /^Sent 2 files, 8 bytes in \d\.\d s \(.*\/s\), over a test$/);
  assertEquals([sent.err.at(-1), received.err.at(-1)], [checked, checked]);
  assertEquals(received.err.slice(0, 3), [
    "Receiving 2 files, 8 bytes: data",
    "data/a  (5 bytes)",
    "data/b  (3 bytes)",
  ]);
  assertMatch(received.err.at(-2)!, /^Received 2 files, 8 bytes/);
});

Deno.test("send and recv say that there is nothing to send if all is there", async () => {
  await using folder = await scratch();
  for (
    const [names, sends, receives] of [
      [["a", "b"], "Nothing to send: all 2 files are already there", "receive: all 2 files are"],
      [["a"], "Nothing to send: the file is already there", "receive: the file is"],
    ] as const
  ) {
    const sources = names.map((name) => `${folder.path}/data/${name}`);
    await transfer(folder.path, false, sources);
    const { sent, received } = await transfer(folder.path, false, sources);
    assertEquals([sent.code, received.code, sent.err.at(-1)], [0, 0, sends]);
    assertMatch(received.err.at(-1)!, new RegExp(receives));
  }
});

Deno.test("send and recv of an empty file do not claim a rate", async () => {
  await using folder = await scratch();
  await Deno.writeTextFile(`${folder.path}/data/empty`, "");
  const { sent, received } = await transfer(folder.path, false, [`${folder.path}/data/empty`]);
  assertEquals(sent.err.at(-1), "Sent 1 file, 0 bytes, over a test");
  assertEquals(received.err.at(-1), "Received 1 file, 0 bytes");
});

Deno.test("TransferReporter says once why a connection broke, and what it waits for", () => {
  const { io, err } = recorder();
  using reporter = new TransferReporter(io, { asJson: false });
  reporter.onBreak(new NetworkError("Cannot continue: the other side was interrupted", "reset"));
  assertEquals(err, [
    "The connection broke: the other side was interrupted. Waiting up to two minutes for another",
  ]);
});

Deno.test("send and recv with --json print only events, on stdout", async () => {
  await using folder = await scratch();
  const { sent, received } = await transfer(folder.path, true);
  for (const { out, err } of [sent, received]) {
    assertEquals(err, []);
    const events = out.map((line) => JSON.parse(line));
    assertEquals(events[0].event, "offer");
    assertEquals(events.at(-1).event, "finished");
    const progress = events.findLast(({ event }) => event === "progress");
    assertEquals([progress.bytes, progress.totalBytes, progress.files], [8, 8, 2]);
  }
});

Deno.test("recv exits with 1 rather than merge an offer into an existing folder", async () => {
  await using folder = await scratch();
  await Deno.mkdir(`${folder.path}/in/data`);
  await Deno.writeTextFile(`${folder.path}/in/data/a`, "other");
  const { sent, received } = await transfer(folder.path, false);
  assertEquals([sent.code, received.code], [1, 1]);
  assertEquals(
    received.err.at(-1),
    "Use --merge to receive",
  );
  assertEquals(await Deno.readTextFile(`${folder.path}/in/data/a`), "other");
});

Deno.test("progressBar() fits every width, and drops the name first", () => {
  const progress = { ...PROGRESS, file: "photos/\u001b[2Jsummer/an evening at the lake.jpg" };
  for (let columns = 1; columns < 200; columns++) {
    const bar = progressBar(progress, 2 ** 20, columns);
    assert(bar.length < columns || columns < 12, `${bar.length} in ${columns}`);
    assert(!bar.includes("\u001b"));
  }
  assertEquals(
    progressBar(progress, 2 ** 20, 120),
    "[###############---------------]  50 %  5.0 MiB of 10.0 MiB  1.0 MiB/s  0:05 left" +
      "  …2Jsummer/an evening at the lake.jpg",
  );
  assertEquals(progressBar(progress, undefined, 35), " 50 %  5.0 MiB of 10.0 MiB");
});

Deno.test("a bar has one unit, at every moment and every rate", () => {
  for (const totalBytes of [900, 5000, 200_000, 3_000_000, 5_000_000_000]) {
    const units = new Set<string>();
    for (let step = 0; step <= 100; step++) {
      for (const rate of [1, 700, 20_000, 900_000, 3e9]) {
        const bytes = Math.round(totalBytes * step / 100);
        const bar = progressBar({ ...PROGRESS, bytes, totalBytes, file: null }, rate, 200);
        for (const [, unit] of bar.matchAll(/[\d.]+ (bytes?|[KMG]iB)/g)) units.add(unit!);
        if (bytes > 0 && totalBytes > 200_000) assert(!/ 0\.0 .iB of/.test(bar), bar);
      }
    }
    units.delete("byte");
    assertEquals(units.size, 1, [...units].join());
  }
});

Deno.test("the end of a transfer says a size, a time and a rate that agree, in one unit", async () => {
  using time = new VirtualTime();
  for (const totalBytes of [19, 40_000, 8_000_000, 5_000_000_000]) {
    for (const waitMs of [3, 40, 900, 12_345, 100_000]) {
      const { io, err } = recorder();
      using reporter = new TransferReporter(io, { asJson: false });
      reporter.onProgress({ ...PROGRESS, bytes: 0, totalBytes, file: "a" });
      await time.run(() => delay(waitMs));
      reporter.onProgress({ ...PROGRESS, bytes: totalBytes, totalBytes, file: null });
      reporter.finished("Sent", {
        ...{ files: 1, bytes: totalBytes, sentBytes: totalBytes, resumedBytes: 0, breaks: 0 },
        ...{ elapsedMs: 3_600_000, skipped: [], refused: [], renamed: [] }, // a long question came before
      });
      const match = /, ([\d.]+).(bytes|.iB) in ([\d:.]+)(?: s)? \(([\d.]+).(bytes|.iB)\/s\)/.exec(
        err[0]!,
      );
      assert(match !== null, err[0]);
      const [, size, unit, shown, rate, rateUnit] = match;
      assertEquals(unit, rateUnit, err[0]);
      const [seconds, minutes = 0] = shown!.split(":").reverse().map(Number);
      const elapsed = seconds! + 60 * minutes;
      const rounding = unit === "bytes" ? 0.5 : 0.05;
      const difference = Math.abs(Number(rate) * elapsed - Number(size));
      assert(difference <= rounding * (elapsed + 1), err[0]);
    }
  }
});

Deno.test("TransferReporter redraws a bar on a terminal, with the recent rate", async () => {
  using time = new VirtualTime();
  const written: string[] = [];
  const status = { columns: 80, write: (text: string) => written.push(text) };
  const { io: plain, err } = recorder({ status });
  using io = withScreen(plain, { asJson: false });
  using reporter = new TransferReporter(io, { asJson: false });
  for (let second = 0; second <= 5; second++) {
    reporter.onProgress({ ...PROGRESS, bytes: second * 2 ** 20, file: "a" });
    await time.run(() => delay(1000));
  }
  assertEquals(err, []);
  assertMatch(written.at(-1)!, /^\r\[#+-+\].* 1\.0 MiB\/s {2}0:05 left/);
  reporter.print("a line");
  assertEquals([written.at(-2), err], ["\r\u001b[K", ["a line"]]);
  assertMatch(written.at(-1)!, /^\r\[#+-+\]/);
});

Deno.test("TransferReporter counts the seconds in which nothing moves", async () => {
  using time = new VirtualTime();
  const written: string[] = [];
  const status = { columns: 80, write: (text: string) => written.push(text) };
  using io = withScreen(recorder({ status }).io, { asJson: false });
  using reporter = new TransferReporter(io, { asJson: false });
  reporter.onProgress({ ...PROGRESS, file: "a" });
  await time.run(() => delay(4500));
  assertMatch(written.at(-1)!, / 50 % {2}5\.0 MiB of 10\.0 MiB {2}stalled, 4 s/);
  assertEquals(written.length >= 4, true);
});

Deno.test("formatBytes() and formatDuration() use the usual notation", () => {
  assertEquals(
    [0, 1, 1023, 2048, 2 ** 20, 1.5 * 2 ** 20, 1000 * 2 ** 20, 1.5 * 2 ** 30].map(formatBytes),
    ["0 bytes", "1 byte", "1023 bytes", "2.0 KiB", "1.0 MiB", "1.5 MiB", "1000.0 MiB", "1.5 GiB"],
  );
  assertEquals([0, 65, 3600].map(formatDuration), ["0:00", "1:05", "1:00:00"]);
});

async function transfer(folder: string, asJson: boolean, sources = [`${folder}/data`]) {
  const { sender, receiver } = connectionSources();
  const [sending, receiving] = [recorder(), recorder()];
  const [sent, received] = await Promise.all([
    runSend(sender, { sources, asJson, route: () => "over a test" }, sending.io),
    runReceive(receiver, {
      folder: `${folder}/in`,
      existing: "refuse",
      asJson,
      consent: new Consent(
        { yes: true, merge: false, allowHidden: false },
        { io: receiving.io, stdin: new StdinLines(receiving.io) },
        () => ({ folder, sender: undefined }),
      ),
    }, receiving.io),
  ]);
  return {
    sent: { code: sent, out: sending.out, err: sending.err },
    received: { code: received, out: receiving.out, err: receiving.err },
  };
}

function recorder(options: Partial<CliIo> = {}): { io: CliIo; out: string[]; err: string[] } {
  const [out, err]: [string[], string[]] = [[], []];
  const { signal } = new AbortController();
  const printing = {
    out: (line: string) => out.push(line),
    err: (line: string) => err.push(line),
  };
  return { io: { ...printing, ...noTerminal(), signal, ...options }, out, err };
}

async function scratch(): Promise<AsyncDisposable & { path: string }> {
  const dir = new URL("../transfer/scratch", import.meta.url).pathname;
  const path = await Deno.makeTempDir({ dir });
  await Deno.mkdir(`${path}/in`);
  await Deno.mkdir(`${path}/data`);
  await Deno.writeTextFile(`${path}/data/a`, "alpha");
  await Deno.writeTextFile(`${path}/data/b`, "two");
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const PROGRESS: TransferProgress = {
  bytes: 5 * 2 ** 20,
  totalBytes: 10 * 2 ** 20,
  resumedBytes: 0,
  files: 0,
  totalFiles: 1,
  file: null,
};
