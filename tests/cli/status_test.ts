import { assert, assertEquals } from "@std/assert";
import { Screen, withScreen } from "../../lib/cli/screen.ts";
import { readTypedAhead, showTypedBelow, StdinLines } from "../../lib/cli/stdin_lines.ts";
import {
  elapsedText,
  failedWays,
  INITIAL_STATUS,
  type StatusEvent,
  statusParts,
  stepStatus,
  wayName,
} from "../../lib/cli/status_engine.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { stdinOf } from "./byte_streams.ts";
import { noTerminal } from "./no_terminal.ts";
import { delay } from "@std/async/delay";

const LOOKING: StatusEvent = {
  kind: "task",
  text: "Looking for the peer",
  isMeeting: true,
  timeoutMs: 30_000,
};
const LAN_OK: StatusEvent = { kind: "way", url: "lan:", state: "open", why: null };
const NO_DNS: StatusEvent = {
  kind: "way",
  url: "mqtts://broker.example:8883",
  state: "failed",
  why: "no DNS",
};

for (
  const [what, events, atMs, line] of [
    ["nothing at first", [], 0, ""],
    [
      "a task and its time",
      [{ kind: "task", text: "Testing the NAT" }],
      2500,
      "Testing the NAT, 2 s",
    ],
    ["how long it may take", [LOOKING], 3000, "Looking for the peer, 3 s of 30 s"],
    [
      "how each way to meet is",
      [LOOKING, LAN_OK, NO_DNS],
      1000,
      "Looking for the peer, 1 s of 30 s: LAN ok, broker.example: no DNS",
    ],
    [
      "why a way failed, while it is tried again",
      [LOOKING, NO_DNS, { ...NO_DNS, state: "opening", why: null }],
      0,
      "Looking for the peer, 0 s of 30 s: broker.example: no DNS",
    ],
    [
      "no ways where they do not matter",
      [LAN_OK, { kind: "task", text: "Asking the router" }],
      0,
      "Asking the router, 0 s",
    ],
    ["nothing once it is over", [LOOKING, LAN_OK, { kind: "idle" }], 0, ""],
  ] as const
) {
  Deno.test(`the status line shows ${what}`, () => {
    const state = events.reduce(
      (state, event: StatusEvent) => stepStatus(state, event, 0),
      INITIAL_STATUS,
    );
    assertEquals(statusParts(state, atMs).map(({ text }) => text).join(""), line);
  });
}

for (
  const [columns, line] of [
    [
      100,
      "Looking for the peer, 3 s of 30 s: LAN ok, broker.hivemq.com ok, broker.example: no DNS",
    ],
    [80, "Looking for the peer, 3 s of 30 s: 2 of 3 ok, broker.example: no DNS"],
    [60, "Looking for the peer, 3 s: 2 of 3 ok, broker.example: no DNS"],
    [50, "Looking, 3 s: 2 of 3 ok, broker.example: no DNS"],
    [39, "3 s: 2 of 3 ok, broker.example: no DNS"],
    [30, "broker.example: no DNS"],
  ] as const
) {
  Deno.test(`the status line says which way fails in ${columns} columns`, () => {
    const other = { ...LAN_OK, url: "mqtts://broker.hivemq.com:8883" };
    assertEquals(lineOf([LOOKING, LAN_OK, other, NO_DNS], 3000, columns), line);
  });
}

Deno.test("ways that fail take turns where the status line cannot hold them, and no line is too long", () => {
  const urls = [
    "wss://meet.example.net",
    "mqtts://broker.hivemq.com:8883",
    "mqtts://broker.emqx.io",
  ];
  const whys = ["TLS failed", "no DNS", "refused"];
  const failing = urls.map((url, index): StatusEvent => ({
    ...{ kind: "way", url, state: "failed", why: whys[index]! },
  }));
  const events = [LOOKING, LAN_OK, ...failing];
  assertEquals([1000, 4000, 7000, 10_000].map((atMs) => lineOf(events, atMs, 39)), [
    "1 of 4 ok, meet.example.net: TLS failed",
    "1 of 4 ok, broker.hivemq.com: no DNS",
    "7 s: 1 of 4 ok, broker.emqx.io: refused",
    "1 of 4 ok, meet.example.net: TLS failed",
  ]);
  for (let columns = 39; columns <= 200; columns++) {
    const lines = [0, 3000, 6000].map((atMs) => lineOf(events, atMs, columns));
    for (const line of lines) assert(line.length <= columns, line);
    for (const why of whys) assert(lines.some((line) => line.includes(`: ${why}`)), why);
  }
});

Deno.test("the status line counts the ways where they do not fit and none fails", () => {
  const other = { ...LAN_OK, url: "mqtts://broker.hivemq.com:8883" };
  assertEquals(lineOf([LOOKING, LAN_OK, other], 3000, 39), "Looking for the peer, 3 s: 2 of 2 ok");
});

function lineOf(events: readonly StatusEvent[], atMs: number, columns: number): string {
  const state = events.reduce((state, event) => stepStatus(state, event, 0), INITIAL_STATUS);
  const parts = statusParts(state, atMs, (text) => text.length <= columns);
  return parts.map(({ text }) => text).join("");
}

Deno.test("the time of a task goes on when it is told again", () => {
  const first = stepStatus(INITIAL_STATUS, LOOKING, 0);
  assertEquals(stepStatus(first, LOOKING, 5000), first);
});

Deno.test("failedWays() is undefined as long as all ways work", () => {
  const ok = stepStatus(INITIAL_STATUS, LAN_OK, 0);
  assertEquals(failedWays(ok), undefined);
  assertEquals(failedWays(stepStatus(ok, NO_DNS, 0)), "LAN ok, broker.example: no DNS");
});

Deno.test("wayName() is what people call a way to meet", () => {
  for (
    const [url, name] of [
      ["lan:", "LAN"],
      ["hand:", "copy and paste"],
      ["ws://192.0.2.1:3480", "192.0.2.1:3480"],
      ["ws://[2001:db8::1]:3480/path", "[2001:db8::1]:3480"],
      ["mqtts://…@broker.hivemq.com:8883", "broker.hivemq.com"],
    ] as const
  ) assertEquals(wayName(url), name);
});

Deno.test("elapsedText() counts seconds, minutes and hours", () => {
  assertEquals([0, 999, 59_999, 65_000, 3_725_000].map(elapsedText), [
    ...["0 s", "0 s", "59 s", "1:05", "1:02:05"],
  ]);
});

Deno.test("a screen redraws the status every second, and keeps it below what is printed", async () => {
  using time = new VirtualTime();
  const { io, text } = terminal(80);
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell({ kind: "task", text: "Testing" });
  await time.run(() => delay(1500));
  screen.err("a line");
  status.tell({ kind: "idle" });
  assertEquals(text(), [
    ...["\rTesting, 0 s\u001b[K\r", "\rTesting, 1 s\u001b[K\r"],
    ...["\r\u001b[K", "a line\n", "\rTesting, 1 s\u001b[K\r", "\r\u001b[K"],
  ]);
});

Deno.test("a screen cuts the status to the terminal's width, which may change", () => {
  const { io, text, resize } = terminal(20);
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell(LOOKING);
  assertEquals(text(), ["\rLooking for the pe…\u001b[K\r"]);
  resize(60);
  status.tell(LAN_OK);
  assertEquals(text().at(-1), "\rLooking for the peer, 0 s of 30 s: LAN ok\u001b[K\r");
});

Deno.test("a screen removes all of a status line that the terminal has wrapped", () => {
  const { io, text, resize } = terminal(80);
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell({ kind: "task", text: "Looking for the peer, here and there and everywhere" });
  resize(40);
  status.tell({ kind: "idle" });
  assertEquals(text().at(-1), "\r\u001b[J");
});

Deno.test("a screen wraps what is printed, but no ticket", () => {
  const { io, text } = terminal(40);
  using screen = withScreen(io, { asJson: false });
  const ticket = `punchline:${"x".repeat(80)}`;
  screen.err(`Cannot connect: no answer from the peer of ${ticket}`);
  assertEquals(text(), [
    "Cannot connect: no answer from the peer\n",
    "  of\n",
    `  ${ticket}\n`,
  ]);
});

Deno.test("without a terminal, or for programs, a screen changes nothing", () => {
  const long = "word ".repeat(40).trim();
  const { io, text } = terminal(40);
  using forPrograms = withScreen(io, { asJson: true });
  forPrograms.err(`{"text":"${long}\u00a0"}`);
  assertEquals(text(), [`{"text":"${long}\u00a0"}\n`]);
  assert(!(forPrograms.status instanceof Screen));
  const lines: string[] = [];
  const { signal } = new AbortController();
  const print = (line: string) => lines.push(line);
  using plain = withScreen({ out: print, err: print, ...noTerminal(), signal }, { asJson: false });
  plain.out(long);
  assertEquals([lines, plain.status], [[long], undefined]);
});

Deno.test("on a dumb terminal a screen prints each task and each way that fails once, and moves no cursor", () => {
  const { io, text } = terminal(80, { isDumb: true });
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell(LOOKING);
  status.tell(LAN_OK);
  screen.err("a line");
  for (let i = 0; i < 3; i++) status.tell(NO_DNS); // tried again and again
  status.tell({ kind: "task", text: "Connecting" });
  status.tell({ kind: "idle" });
  assertEquals(text(), [
    ...["Looking for the peer\n", "a line\n", "broker.example: no DNS\n", "Connecting\n"],
  ]);
});

Deno.test("a screen shows what failed in red, where there are colours", () => {
  const { io, text } = terminal(80, { hasStyles: true });
  using screen = withScreen(io, { asJson: false });
  (screen.status as Screen).tell(NO_DNS);
  (screen.status as Screen).tell(LOOKING);
  assert(text().at(-1)!.includes("\u001b[31mbroker.example: no DNS\u001b[0m"), text().at(-1));
});

Deno.test("what is typed goes below the status line, and stays when Enter ends it", async () => {
  using time = new VirtualTime();
  const { io, text, resize } = terminal(20);
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell({ kind: "task", text: "Waiting" });
  status.expectTyping();
  assertEquals(text().slice(1), ["\r\u001b[K", "\rWaiting, 0 s\u001b[K\n"]);
  await time.run(() => delay(1500));
  assertEquals(text().slice(3), ["\u001b7\r\u001b[1AWaiting, 1 s\u001b[K\u001b8"]);
  status.typed("no Enter yet");
  assertEquals(text().length, 4);
  status.typed("one row\ntwo rows, as it is so long\nthe rest");
  assertEquals(text().slice(4), [
    "\u001b7\r\u001b[4A\u001b[M\u001b[3B\u001b[LWaiting, 1 s\u001b8", // "the rest" keeps its row
  ]);
  resize(10); // the terminal has wrapped the status line
  screen.err("a line");
  assertEquals(text().slice(5), [
    ...["\r\u001b[2A\u001b[J", "a line\n", "\rWaiting,…\u001b[K\n"],
  ]);
  status.tell({ kind: "idle" });
  assertEquals(text().at(-1), "\r\u001b[K\u001b[1A\u001b[K");
  status.typed("a message\n"); // no status line, nothing to do
  assertEquals(text().length, 9);
});

Deno.test("what was typed while a command started has no row below the status line", async () => {
  using _time = new VirtualTime();
  const { io, text } = terminal(40);
  using screen = withScreen(io, { asJson: false });
  const keyboard = new TransformStream<Uint8Array>();
  const writer = keyboard.writable.getWriter();
  const typing = {
    status: screen.status,
    isInputTerminal: true,
    stdin: stdinOf(keyboard.readable),
  };
  const stdin = new StdinLines(typing);
  readTypedAhead(typing, stdin);
  await writer.write(new TextEncoder().encode("early\n"));
  screen.err("On the other machine: TICKET");
  (screen.status as Screen).tell({ kind: "task", text: "Waiting" });
  showTypedBelow(typing);
  assertEquals(text().slice(-2), ["\r\u001b[K", "\rWaiting, 0 s\u001b[K\n"]); // nothing above is deleted
  await writer.write(new TextEncoder().encode("late\n"));
  await writer.ready;
  assertEquals(text().at(-1), "\u001b7\r\u001b[2A\u001b[M\u001b[1B\u001b[LWaiting, 0 s\u001b8");
  const { signal } = io;
  assertEquals(await stdin.line({ maxBytes: 10, signal }), "early");
  assertEquals(await stdin.line({ maxBytes: 10, signal }), "late");
});

Deno.test("a question keeps the status line away until it is answered", () => {
  const { io, text } = terminal(80);
  using screen = withScreen(io, { asJson: false });
  const status = screen.status as Screen;
  status.tell({ kind: "task", text: "Waiting" });
  status.write("Receive? [y/N] ");
  status.tell({ kind: "task", text: "Waiting longer" });
  assertEquals(text().at(-1), "Receive? [y/N] ");
  status.release();
  assertEquals(text().at(-1), "\rWaiting longer, 0 s\u001b[K\r");
});

function terminal(columns: number, options: { isDumb?: boolean; hasStyles?: boolean } = {}) {
  const written: string[] = [];
  const write = (text: string) => written.push(text);
  let width = columns;
  const status = {
    ...options,
    write,
    get columns() {
      return width;
    },
  };
  const print = (line: string) => write(`${line}\n`);
  const { signal } = new AbortController();
  const io = { ...noTerminal(), out: print, err: print, isTerminal: true, status, signal };
  return { io, text: () => written, resize: (columns: number) => width = columns };
}
